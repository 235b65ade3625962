"""The records of the Celery engine: every job as a hash in Redis, changed by small scripts only.

Celery's brokers can't report the status of a job, and a result backend can't distinguish a job that
waits from one that does not exist. So this store does, and a message only names a job: the worker
that receives it claims the job here, which only one can. A message that arrives twice, or late, is
refused; a lost message is sent again.

The keys, each after the prefix:
    job:<id>            hash: the job's status and counts (see `JOB_FIELDS`), its attempts' logs
    attempts:<id>       list: attempts that did not simply succeed, as JSON
    result:<id>         what the task returned, as JSON
    all, is:<status>    sorted sets: jobs in the order in which they were enqueued
    ids                 sorted set: the same by their ids
    due                 sorted set: READY jobs that wait for a later moment
    unsent              sorted set: READY jobs whose message a worker is to send, from that moment
    sent:<lane>         sorted set: READY jobs whose message is under way, since when
    served              hash: per lane, when the message of its newest claimed job was sent
    held:<queue>        sorted set: READY jobs of a paused queue whose message was dropped
    running:<worker>, stopping:<worker>    sets: its jobs, and those that it has to stop
    ends                sorted set: finished jobs by the moment at which they are deleted
    unique:<key>        the id of the job that holds a unique key
    queues, lanes, paused, tally           which queues there are, and what is in them
    workers, beats      hashes: a description and a growing number for each worker
    schedules, schedule:<name>             when the schedules fired, and fire next
    outbox:<id>         the highest number that came from that outbox
    relayed:<job>       there until a job's row has long left the outbox of its transaction
    order               the number of the newest job
A lane is a queue with a level of priority.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from flask_offload.engine_api import MAX_ATTEMPTS, JobStatus, Report
from flask_offload.errors import EngineUnavailable

SCRIPTS: Final = (
    "create",
    "withdraw",
    "claim",
    "finish",
    "report",
    "step",
    "cancel",
    "retry",
    "postpone",
    "round",
    "sweep",
    "resume",
    "tick",
    "discard",
    "enable",
    "prune",
)

JOB_FIELDS: Final = (
    *("status", "body", "enqueued_at", "run_after", "started_at", "finished_at", "attempt"),
    *("failures", "crashes", "worker", "cancel", "done", "total", "message", "duplicate_of"),
)


LOG: Final = "log:"
"""Before the number of an attempt: the field of a job's hash with the lines of that attempt."""


class Draft(msgspec.Struct, kw_only=True):
    """A job as the scripts take it. Numbers that must keep all their digits are text."""

    id: str
    seq: int = 0
    note: int = 0
    task: str
    queue: str
    lane: str
    owner: str
    enqueued_at: str
    run_after: str
    unique: str
    unique_for: str
    states: str
    keep: float
    body: str


class Transition(msgspec.Struct, kw_only=True):
    """What `finish` writes: the status that follows an attempt, with its counts and times."""

    status: JobStatus
    status_if_cancelled: JobStatus
    """The status that follows if the job has been asked to stop meanwhile."""
    started_at: float
    finished_at: float
    failures: int
    crashes: int
    run_after: float = 0.0
    expires_at: float = 0.0
    attempt: bytes = b""
    """The attempt as JSON, unless it simply succeeded."""
    result: str | None = None
    result_ttl: float | None = None


class RedisStore:
    """The scripts, as methods. All raise EngineUnavailable when Redis can't be used.

    url: redis://, rediss:// or unix://. prefix: of every key. timeout: seconds for connecting and
    for each answer.
    """

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        self.url = url
        self.prefix = prefix
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),
            decode_responses=True,
            # once, as a restarted server has closed the connection; scripts may run twice
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisGone,)),
        )
        folder = files(__package__) / "scripts"
        common = (folder / "_common.lua").read_text()
        self._scripts = {
            name: self._redis.register_script(common + (folder / f"{name}.lua").read_text())
            for name in SCRIPTS
        }

    def run(self, script: str, *arguments: Any) -> Any:
        """Run one script."""
        try:
            return self._scripts[script](keys=[self.prefix], args=arguments)
        except (RedisError, OSError) as error:
            raise self._explained(error) from error

    def ask(self, command: str, key: str, *arguments: Any) -> Any:
        """One plain command on the key of that name."""
        return self.ask_all([(command, key, *arguments)])[0]

    def ask_all(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Several plain commands in one round trip, as one transaction."""
        try:
            with self._redis.pipeline() as pipeline:
                for command, key, *arguments in commands:
                    pipeline.execute_command(command, self.prefix + key, *arguments)
                answers: list[Any] = pipeline.execute()
                return answers
        except (RedisError, OSError) as error:
            raise self._explained(error) from error

    def info(self) -> dict[str, Any]:
        """The answer of INFO; {} if access rules forbid it."""
        try:
            answer: dict[str, Any] = self._redis.info()
        except ResponseError:
            return {}
        except (RedisError, OSError) as error:
            raise self._explained(error) from error
        return answer

    def clear(self) -> None:
        """Delete everything under the prefix."""
        try:
            pattern = self.prefix.translate({ord(sign): f"\\{sign}" for sign in "*?[]\\"}) + "*"
            found = list(self._redis.scan_iter(match=pattern, count=1000))
            for start in range(0, len(found), 1000):
                self._redis.unlink(*found[start : start + 1000])
        except (RedisError, OSError) as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self._redis.close()
        self._redis.connection_pool.disconnect()

    # --- jobs ---

    def create(
        self,
        drafts: Sequence[Draft],
        now: float,
        patience: float,
        *,
        outbox: str = "",
        sent: Sequence[str] = (),
    ) -> list[list[str]]:
        """Accept jobs: ["new"], ["known"] or ["duplicate", id of the other job] for each.

        patience: seconds for which workers leave sending the messages to the caller. sent: ids of
        earlier jobs whose messages have been sent.
        """
        encoded = [msgspec.json.encode(draft) for draft in drafts]
        # what a failing script has written stays written: so nothing may make it fail
        for text in encoded:
            msgspec.json.decode(text, type=Draft)
        if len({draft.id for draft in drafts}) < len(drafts):
            raise ValueError("two of the jobs have the same id")
        answers: list[list[str]] = self.run(
            "create", now, patience, outbox, len(sent), *sent, *encoded
        )
        return answers

    def read(self, ids: Sequence[str]) -> list[tuple[dict[str, str], list[str], str | None]]:
        """Each job's fields, attempts and result; no fields for an unknown job."""
        commands: list[tuple[Any, ...]] = []
        for job_id in ids:
            commands += [
                ("HMGET", f"job:{job_id}", *JOB_FIELDS),
                ("LRANGE", f"attempts:{job_id}", 0, -1),
                ("GET", f"result:{job_id}"),
            ]
        answers = self.ask_all(commands) if commands else []
        return [
            (
                {
                    name: value
                    for name, value in zip(JOB_FIELDS, answers[at], strict=True)
                    if value is not None
                },
                answers[at + 1],
                answers[at + 2],
            )
            for at in range(0, len(answers), 3)
        ]

    def waiting(self, ids: Sequence[str]) -> list[str]:
        """The bodies of those among the jobs that are READY."""
        commands = [("HMGET", f"job:{job_id}", "body", "status") for job_id in ids]
        answers = self.ask_all(commands) if commands else []
        return [body for body, status in answers if status == JobStatus.READY]

    def claim(self, job_id: str, worker: str, now: float, plain: Draft | None = None) -> list[Any]:
        """Start an attempt: ["run", body, enqueued_at, attempt, failures, crashes, cursor], or the
        reason why not."""
        draft = "" if plain is None else msgspec.json.encode(plain)
        answer: list[Any] = self.run("claim", job_id, worker, now, secrets.token_hex(8), draft)
        return answer

    def finish(
        self,
        job_id: str,
        attempt: int,
        worker: str,
        transition: Transition,
        *,
        now: float,
        patience: float,
    ) -> str:
        """Record how an attempt ended; the status that follows, or "late"."""
        ttl = transition.result_ttl
        answer: str = self.run(
            "finish",
            job_id,
            attempt,
            worker,
            now,
            transition.status.value,
            transition.started_at,
            transition.finished_at,
            transition.failures,
            transition.crashes,
            transition.run_after,
            patience,
            transition.expires_at,
            transition.attempt,
            transition.result or "",
            "" if ttl is None else ttl,
            transition.status_if_cancelled.value,
        )
        return answer

    def report(self, job_id: str, attempt: int, worker: str, report: Report | None) -> int:
        """Record progress; 1 or 2 if the job is to stop (2: by force), -1 if another worker has
        the job now."""
        pairs: list[Any] = []
        if report is not None:
            for name in ("done", "total", "message", "cursor"):
                value = getattr(report, name)
                if value is not None:
                    pairs += [name, value]
            if report.log is not None:
                pairs += [f"{LOG}{attempt}", report.log]
                if attempt > MAX_ATTEMPTS:
                    pairs += [f"{LOG}{attempt - MAX_ATTEMPTS}", ""]
        answer: int = self.run("report", job_id, attempt, worker, *pairs)
        return answer

    def log(self, job_id: str) -> list[tuple[int, str]] | None:
        """(number of the attempt, its log) of those that have logged; None for an unknown job."""
        found = self.ask("HGETALL", f"job:{job_id}")
        fields = dict(zip(found[::2], found[1::2], strict=True)) if type(found) is list else found
        logs = (
            (int(name.removeprefix(LOG)), text)
            for name, text in fields.items()
            if name.startswith(LOG) and text
        )
        return sorted(logs) if fields else None

    # --- errors ---

    def _explained(self, error: BaseException) -> EngineUnavailable:
        place = self.place
        if isinstance(error, ResponseError) and "OOM" in str(error):
            return EngineUnavailable(
                f"Redis at {place} has no memory left ({error}): raise its maxmemory, or keep"
                " finished jobs for a shorter time (OFFLOAD_KEEP_SUCCESSFUL, OFFLOAD_KEEP_FAILED)"
            )
        if isinstance(error, ResponseError) and str(error).startswith(("READONLY", "MISCONF")):
            return EngineUnavailable(f"Redis at {place} refuses writes: {error}")
        return EngineUnavailable(
            f"Redis at {place}, which keeps the jobs' records, can't be reached"
            f" ({type(error).__name__}: {error}): start it, or correct OFFLOAD_CELERY_RECORDS"
        )

    @property
    def place(self) -> str:
        """Its address, without a password."""
        options = self._redis.connection_pool.connection_kwargs
        if "path" in options:
            return str(options["path"])
        host, port = options.get("host", "localhost"), options.get("port", 6379)
        return f"{host}:{port}/{options.get('db', 0)}"
