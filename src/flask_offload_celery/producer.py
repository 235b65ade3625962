"""How jobs come in: into the records, then as a message to the workers; or into the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from flask_offload.errors import EngineUnavailable
from flask_offload.jobs.job import JobRecord
from flask_offload.jobs.new_job import NewJob

from .connections import Office
from .deadline import Call
from .outbox import Outbox
from .records import new_record
from .rollback import Regrets

PATIENCE: Final = 60.0
"""Seconds for which workers leave it to the sender to send a message. A process that dies between
writing a job down and sending its message has told nobody that the job is accepted."""
BITE: Final = 50
"""Messages that are sent within one OFFLOAD_ENQUEUE_TIMEOUT."""


class Entrance:
    """See the module."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._regrets = Regrets(
            lambda ids: office.ledger.run("withdraw", *ids), patience=PATIENCE * 0.75
        )

    def close(self) -> None:
        """End our threads."""
        self._regrets.close()
        if self._office.outbox is not None:
            self._office.outbox.close()

    def forget_parent(self) -> None:
        """In a forked child, which has none of its parent's threads."""
        self._regrets.forget_parent()
        if self._office.outbox is not None:
            self._office.outbox.forget_parent()

    def accept(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Write the jobs down, then send their messages: all or none. Messages of a batch after its
        first are sent by workers if we can't."""
        outbox = self._office.outbox
        if outbox is not None and outbox.has_jobs():
            return self._put_aside(outbox, jobs)
        try:
            records, left = self._office.deadline.run(lambda call: self._accept(call, jobs))
        except EngineUnavailable:
            if outbox is None:
                raise
            return self._put_aside(outbox, jobs)
        self._send_rest(left)
        return records

    def _accept(
        self, call: Call[tuple[list[JobRecord], list[NewJob]]], jobs: Sequence[NewJob]
    ) -> tuple[list[JobRecord], list[NewJob]]:
        """Write the jobs down and send the first message; the records, and what is left to send."""
        now = self._office.host.clock()
        drafts = [self._office.draft(job) for job in jobs]
        try:
            answers = self._office.ledger.create(drafts, now, PATIENCE)
        except EngineUnavailable:
            self._regret([job.id for job in jobs])
            raise
        new = [job for job, answer in zip(jobs, answers, strict=True) if len(answer) == 1]
        due = [job for job in new if job.run_after is None or job.run_after <= now]
        self._send_or_withdraw(call, due[:1], new)
        records = [
            new_record(job, now=now) if len(answer) == 1 else self._duplicate(answer[1])
            for job, answer in zip(jobs, answers, strict=True)
        ]
        return records, due[1:]

    def _duplicate(self, job_id: str) -> JobRecord:
        found = self._office.read(job_id)
        found.is_duplicate = True
        return found

    def _send_or_withdraw(
        self, call: Call[Any], first: Sequence[NewJob], new: Sequence[NewJob]
    ) -> None:
        """Send a first message: if it arrives, the others will. Else take all jobs back."""
        try:
            for job in first:
                self._office.broker.send(job)
            if call.is_abandoned:
                raise EngineUnavailable("too late: the caller was told that nothing was enqueued")
        except EngineUnavailable:
            if not self._withdraw([job.id for job in new]):
                raise
        else:
            self._office.note_sent(first)

    def _withdraw(self, ids: list[str]) -> bool:
        """Take jobs back; whether one has been started after all, and so they are accepted."""
        try:
            return bool(self._office.ledger.run("withdraw", *ids))
        except EngineUnavailable:
            self._regret(ids)
            return False

    def _regret(self, ids: list[str]) -> None:
        """Take back, later, what may have been written down, unless it is in the outbox now."""
        if self._office.outbox is None:
            self._regrets.add(ids)

    def _send_rest(self, jobs: Sequence[NewJob]) -> None:
        """Send the messages of jobs that are accepted, in bites that each end in time."""
        office = self._office
        for start in range(0, len(jobs), BITE):
            bite = jobs[start : start + BITE]
            try:
                office.deadline.run(lambda _, bite=bite: office.send(bite))  # type: ignore[misc]
            except EngineUnavailable:
                break

    # --- the outbox ---

    def _put_aside(self, outbox: Outbox, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs into the outbox, and try to get them out of it."""
        outbox.put(jobs)
        outbox.relay()
        now = self._office.host.clock()
        return [new_record(job, now=now) for job in jobs]

    def deliver(self, name: str, rows: Sequence[tuple[int, NewJob]]) -> None:
        """Take jobs of an outbox into the records, each once, and send their messages, in order."""
        now = self._office.host.clock()
        drafts = [self._office.draft(job, seq=seq) for seq, job in rows]
        self._office.ledger.create(drafts, now, PATIENCE, name)
        waiting = set(self._office.ledger.ready([job.id for _, job in rows]))
        due = [
            job
            for _, job in rows
            if job.id in waiting and (job.run_after is None or job.run_after <= now)
        ]
        if not self._office.send(due):
            raise EngineUnavailable("Celery's broker does not take the messages of the outbox yet")
