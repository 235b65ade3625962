"""What the tests of the store share: a clock to set, new jobs, workers to claim and to die."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines import sql_schedules
from flask_offload.engines.schedules import ScheduleSpec
from flask_offload.engines.sqlite.connection import Connection
from flask_offload.engines.sqlite.maintenance import prune
from flask_offload.engines.sqlite.recovery import recover, unregister
from flask_offload.engines.store import Exchange, Retention, StoreOptions
from flask_offload.engines.worker_locks import run_folder
from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Error, JobRecord, JobStatus, new_id
from flask_offload.jobs.new_job import ASYNC, ISOLATED, QUARANTINED, THREADS, NewJob

START = 1_800_000_000.0
"""The moment (unix seconds) at which a test's clock begins."""

KEEP = Retention(
    successful=100.0,
    failed=1000.0,
    count=1000,
    own={"brief": {JobStatus.FAILED: 5.0, JobStatus.CANCELLED: 6.0}},
)


class Clock:
    """Unix seconds, as the test sets them."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time pass; negative: the clock is set back."""
        self.now += seconds


class Store:
    """An engine on a database of its own, with a clock to set and workers to claim."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = Clock()
        self.path = folder / "jobs.sqlite3"
        self.engine = SqliteEngine(
            self.path,
            clock=self.clock,
            keep_cancelled=lambda task: KEEP.failed,
            **{"durable": False, **options},
        )
        self._workers: list[Worker] = []

    def close(self) -> None:
        """Let go of everything."""
        for worker in self._workers:
            worker.close()
        self.engine.close()

    # --- jobs ---

    def new(self, **options: Any) -> NewJob:
        """A job on its way in."""
        return new_job(self.clock(), **options)

    def enqueue(self, **options: Any) -> JobRecord:
        """Accept one job."""
        (record,) = self.engine.enqueue([self.new(**options)])
        return record

    def get(self, record: JobRecord) -> JobRecord:
        """The job as it stands."""
        return self.engine.get(record.id)

    def status(self, record: JobRecord) -> JobStatus:
        """The job's status as it stands."""
        return self.get(record).status

    def state(self, record: JobRecord) -> str:
        """The state of its row, which distinguishes READY jobs."""
        state: str = self.query("SELECT state FROM jobs WHERE id = ?", record.id)[0][0]
        return state

    # --- workers ---

    def worker(self, **options: Any) -> Worker:
        """A worker that is alive until it is killed."""
        made = Worker(self, **options)
        self._workers.append(made)
        return made

    def recover(self) -> list[tuple[str, int]]:
        """Put the jobs of dead workers back, as any worker does."""
        return recover(self.engine, KEEP, "other")

    def prune(self, keep_count: int) -> None:
        """Delete a batch of what is not kept any longer, as any worker does."""
        prune(self.engine, keep_count=keep_count)

    # --- beneath ---

    def query(self, statement: str, *bindings: object) -> list[tuple[Any, ...]]:
        """Rows, straight from the database."""
        return self.engine.database.read(
            lambda connection: connection.execute(statement, bindings).fetchall()
        )

    def execute(self, statement: str, *bindings: object) -> None:
        """Change the database behind the engine's back."""

        def work(connection: Connection) -> None:
            connection.execute(statement, bindings).fetchall()

        self.engine.database.write(work)

    def plan(self, statement: str, *bindings: object) -> str:
        """How SQLite would run it, one line for each step."""
        rows = self.query(f"EXPLAIN QUERY PLAN {statement}", *bindings)
        return "\n".join(str(row[3]) for row in rows)


class Worker:
    """A worker as the database and the run folder see it; its jobs run in the test's head."""

    def __init__(
        self, store: Store, *, queues: Iterable[str] | None = None, registered: bool = True
    ) -> None:
        self.store = store
        names = None if queues is None else frozenset(queues)
        self.sqlite_store = store.engine.open_store(
            StoreOptions(kind="command", retention=KEEP, places=64, capacity=1, queues=names)
        )
        self.registration = self.sqlite_store._registration
        self.id = self.sqlite_store.worker_id
        self.held: dict[str, Claim] = {}
        self.is_alive = True
        self._is_closed = False
        if not registered:
            unregister(store.engine, self.id)

    # --- claim ---

    def serve(self, queues: Iterable[str] | None) -> None:
        """Claim from these queues only; None: from all."""
        self.sqlite_store._queues = None if queues is None else frozenset(queues)

    def claim(self, count: int = 1, lane: str = THREADS) -> list[Claim]:
        """Claim up to so many jobs of a lane."""
        return self.exchange(capacity={lane: count}).claims

    def claim_one(self, lane: str = THREADS) -> Claim:
        """Claim a job that must be there."""
        claims = self.claim(1, lane)
        assert len(claims) == 1, "there is nothing to claim"
        return claims[0]

    def exchange(
        self, *outcomes: Outcome, capacity: dict[str, int] | None = None, start: bool = True
    ) -> Exchange:
        """Record outcomes and claim; start: record each claim as started."""
        exchanged = self.sqlite_store.exchange(outcomes, capacity or {})
        for claim in exchanged.claims:
            claim.ticket = self.registration.slots.take(claim.seq)
            self.held[claim.id] = claim
            if start:
                self.start(claim)
        return exchanged

    def start(self, claim: Claim) -> None:
        """Note that the job's first line runs."""
        self.registration.slots.start(claim.ticket, claim.seq)

    # --- finish ---

    def finish(self, claim: Claim, ending: Ending = Ending.SUCCESSFUL, **options: Any) -> bool:
        """Write the outcome of a claim; False if it came too late."""
        exchanged = self.exchange(outcome(claim, self.store.clock(), ending, **options))
        self.held.pop(claim.id, None)
        return not exchanged.refused

    def give_back(self, *claims: Claim, delay: float = 0.0) -> None:
        """Put back what has not started."""
        self.sqlite_store.give_back(claims, delay=delay)
        for claim in claims:
            self.registration.slots.give_back(claim.ticket)
            self.held.pop(claim.id, None)

    # --- live and die ---

    def die(self, *, files_too: bool = False) -> None:
        """End as by SIGKILL: the kernel lets the lock go, everything else stays.

        files_too: its files in the run folder are removed as well.
        """
        self.is_alive = False
        self.registration.lock.abandon()
        if files_too:
            for path in run_folder(self.store.path).glob(f"{self.id}.*"):
                path.unlink()

    def close(self) -> None:
        """Remove what is left of it, but for its row."""
        if not self._is_closed:
            self._is_closed = True
            self.sqlite_store._leave()


LANES = (THREADS, ASYNC, ISOLATED, QUARANTINED)


def tick(engine: SqliteEngine, spec: ScheduleSpec, now: float) -> list[JobRecord]:
    """As a worker does it."""
    return engine.database.write(lambda c: sql_schedules.tick(engine, c, spec, now))


def next_tick(engine: SqliteEngine, spec: ScheduleSpec, now: float) -> float | None:
    """As a worker does it."""
    return engine.database.read(lambda c: sql_schedules.next_tick(engine, c, spec, now))


def new_job(now: float = START, **options: Any) -> NewJob:
    """A job on its way in, plain but for the options."""
    values: dict[str, Any] = {
        "id": new_id(),
        "task": "app.task",
        "queue_name": "default",
        "priority": 0,
        "enqueued_at": now,
        "args": "[]",
    }
    return NewJob(**{**values, **options})


def outcome(
    claim: Claim, now: float, ending: Ending = Ending.SUCCESSFUL, **options: Any
) -> Outcome:
    """How a claimed attempt ended; with an error unless it went well."""
    if ending not in (Ending.SUCCESSFUL, Ending.INTERRUPTED):
        options.setdefault("error", Error("ValueError", "no", "Traceback …"))
    return Outcome(claim.seq, claim.attempt, ending, claim.claimed_at, now, **options)


def stale_claim(seq: int, job_id: str, attempt: int) -> Claim:
    """A claim that is no longer held; only its fence matters."""
    nothing: dict[str, Any] = dict.fromkeys(("task", "queue_name", "lane", "origin", "args"), "")
    return Claim(
        seq=seq,
        id=job_id,
        attempt=attempt,
        priority=0,
        failures=0,
        crashes=0,
        on_crash="retry",
        owner=None,
        enqueued_at=0.0,
        claimed_at=0.0,
        context=None,
        cursor=None,
        **nothing,
    )


def pid_that_is_gone() -> int:
    """The id of a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
