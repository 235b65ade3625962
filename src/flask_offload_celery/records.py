"""Jobs as the store's scripts take them, and as the engine returns them."""

from __future__ import annotations

from typing import Final

import msgspec

from flask_offload.engine_api import Attempt, Error, JobRecord, JobStatus, NewJob, moment

from .levels import level_of
from .redis_store import Draft

UNIQUE_WHILE: Final = frozenset({JobStatus.READY, JobStatus.RUNNING})


class KeptJob(NewJob, kw_only=True):
    """A job in the store. signature: for one that plain Celery code has enqueued, its message as
    Celery writes it (JSON), with its callbacks and chains."""

    signature: str | None = None


_decode_attempt: Final = msgspec.json.Decoder(Attempt).decode
decode_job: Final = msgspec.json.Decoder(KeptJob).decode


def draft(job: NewJob, *, keep: float, seq: int = 0, note: int = 0) -> Draft:
    """A job as the store's scripts take it.

    keep: seconds for which a job is kept that ends before it began. seq: its number in an outbox.
    note: seconds for which its id is noted, for the outbox of a transaction.
    """
    states = job.unique_states or UNIQUE_WHILE
    return Draft(
        id=job.id,
        seq=seq,
        note=note,
        task=job.task,
        queue=job.queue_name,
        lane=f"{job.queue_name}|{level_of(job.priority)}",
        owner=job.owner or "",
        enqueued_at=repr(job.enqueued_at),
        run_after="" if job.run_after is None else repr(job.run_after),
        unique=job.unique_key or "",
        unique_for="" if job.unique_for is None else repr(job.unique_for),
        states=",".join(sorted(states)),
        keep=keep,
        body=msgspec.json.encode(job).decode(),
    )


def new_record(job: NewJob, *, now: float) -> JobRecord:
    """A job that has just been accepted."""
    return job.record(waiting_for=_waiting_for(job.run_after, now))


def record(
    fields: dict[str, str], attempts: list[str], result: str | None, *, now: float
) -> JobRecord:
    """A job as it is in the store. Without `result`, it is left out."""
    job = decode_job(fields["body"])
    found = new_record(job, now=now)
    found.status = JobStatus(fields["status"])
    found.run_after = _number(fields.get("run_after"))
    found.started_at = _number(fields.get("started_at"))
    found.finished_at = _number(fields.get("finished_at"))
    found.attempt, found.crashes = int(fields["attempt"]), int(fields["crashes"])
    found.worker, found.message = fields.get("worker"), fields.get("message")
    found.done, found.total = _number(fields.get("done")), _number(fields.get("total"))
    found.cancel_requested = int(fields["cancel"]) > 0
    ready = found.status is JobStatus.READY
    found.waiting_for = _waiting_for(found.run_after, now) if ready else None
    found.attempts = [_decode_attempt(text) for text in attempts]
    _add_current_attempt(found)
    if "duplicate_of" in fields:
        message = f"job {fields['duplicate_of']} holds its unique key already"
        found.error = Error("Duplicate", message)
    if found.status is JobStatus.SUCCESSFUL:
        found.result = result
    return found


def _add_current_attempt(found: JobRecord) -> None:
    """An attempt that runs, or has succeeded, has no entry of its own in the store."""
    recorded = found.attempts[-1].number if found.attempts else 0
    if found.attempt > recorded and found.status in (JobStatus.RUNNING, JobStatus.SUCCESSFUL):
        found.attempts.append(
            Attempt(
                number=found.attempt,
                worker=found.worker,
                started_at=moment(found.started_at),
                finished_at=moment(found.finished_at),
                outcome=None if found.status is JobStatus.RUNNING else str(found.status),
            )
        )
    elif found.attempts:
        found.error = found.attempts[-1].error


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _waiting_for(run_after: float | None, now: float) -> str | None:
    return "its time" if run_after is not None and run_after > now else None
