"""The store against the plain model of it: anything, in any order, by two workers at once.

OFFLOAD_MACHINE_EXAMPLES=10000 runs the long form.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flask_offload.engines import attempt_writes
from flask_offload.engines.base import JobQuery
from flask_offload.errors import InvalidTransition
from flask_offload.jobs.attempt import Claim, Ending, Report
from flask_offload.jobs.job import JobStatus
from flask_offload.jobs.new_job import ISOLATED, QUARANTINED, THREADS
from flask_offload.jobs.rate import Rate
from flask_offload.jobs.transition import MAX_CRASHES
from postgres_model_store import PostgresModelStore
from postgres_server import PostgresServer, shared_server
from store_reference_model import FINISHED, Model, ModelJob
from store_support import KEEP, Clock, Store, Worker, new_job, outcome, stale_claim

EXAMPLES = int(os.environ.get("OFFLOAD_MACHINE_EXAMPLES", "60"))
STEPS = 50

COLUMNS = (
    "id, state, lane, attempt, failures, crashes, cancel, worker, run_after, unique_key, expires_at"
)

QUEUES = ("a", "b")
NUMBER = st.integers(0, 1000)
JOB = st.fixed_dictionaries(
    {
        "queue_name": st.sampled_from(QUEUES),
        "priority": st.sampled_from([0, 0, 5, -5]),
        "lane": st.sampled_from([THREADS, THREADS, THREADS, ISOLATED]),
        "on_crash": st.sampled_from(["retry", "retry", "fail"]),
        "args": st.sampled_from(["[]", '["' + "x" * 600 + '"]']),
        "delay": st.sampled_from([None, None, None, -5.0, 5.0]),
        "unique_key": st.sampled_from([None, None, "u", "v"]),
        "unique_for": st.sampled_from([None, None, 7.0]),
        "unique_states": st.sampled_from(
            [None, None, frozenset({JobStatus.READY}), frozenset(JobStatus)]
        ),
        "concurrency_key": st.sampled_from([None, None, "c", "d"]),
        "concurrency": st.sampled_from([1, 2]),
        "rate_key": st.sampled_from([None, None, "c", "r"]),  # one like the other limit's
        "rate": st.sampled_from([Rate(1, 10), Rate(2, 10)]),
    }
)
LOG = st.sampled_from(["first", "longer, and with 'quotes'", "ü\N{SNOWMAN}" * 2000])
WORKERS = 2
LOGGED_ATTEMPTS = 2
"""Fewer than MAX_ATTEMPTS, which no example would reach."""


class StoreMachine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model; `agrees` compares all rows."""

    store: ClassVar[Store]

    @initialize()
    def begin(self) -> None:
        store = self.store
        store.clock.now = Clock().now
        store.engine.clear()
        store.execute("DELETE FROM queues")
        store.execute("DELETE FROM workers")
        store.engine.database.close()  # it remembers the queues that it has seen
        self.model = Model(
            KEEP.successful, KEEP.failed, MAX_CRASHES, LOGGED_ATTEMPTS, now=store.clock()
        )
        self.workers: list[Worker] = [store.worker() for _ in range(WORKERS)]
        self.started: set[str] = set()

    def teardown(self) -> None:
        for worker in getattr(self, "workers", []):
            worker.close()

    # --- accept ---

    @rule(batch=st.lists(JOB, min_size=1, max_size=3))
    def enqueue(self, batch: list[dict[str, Any]]) -> None:
        news = []
        for options in batch:
            delay = options["delay"]
            at = None if delay is None else self.store.clock() + delay
            values = {key: value for key, value in options.items() if key != "delay"}
            news.append(new_job(self.store.clock(), run_after=at, **values))
        records = self.store.engine.enqueue(news)
        for new, record in zip(news, records, strict=True):
            duplicate = self.model.duplicate_of(new)
            assert record.is_duplicate == (duplicate is not None)
            if duplicate is None:
                self.model.accept(new, record.id)
            else:
                assert record.id == duplicate.id
        self.model.accepted(news)

    # --- run ---

    @rule(
        which=NUMBER,
        threads=st.integers(0, 3),
        isolated=st.integers(0, 1),
        suspects=st.integers(0, 1),
        queues=st.sampled_from([None, None, ("a",)]),
        start=st.booleans(),
    )
    def claim(
        self,
        which: int,
        threads: int,
        isolated: int,
        suspects: int,
        queues: tuple[str, ...] | None,
        start: bool,
    ) -> None:
        worker = self.workers[which % WORKERS]
        room = {ISOLATED: isolated, QUARANTINED: suspects, THREADS: threads}
        worker.serve(queues)
        claims = worker.exchange(capacity=room, start=start).claims
        expected = self.model.claim(worker.id, room, queues)
        assert [claim.id for claim in claims] == [job.id for job in expected]
        for claim, job in zip(claims, expected, strict=True):
            assert (claim.attempt, claim.args) == (job.attempt, job.new.args)
            if start:
                self.started.add(claim.id)
            else:
                self.started.discard(claim.id)

    def held(self, which: int) -> tuple[Worker, Claim, ModelJob] | None:
        """One of the jobs that some worker holds."""
        held = [(worker, claim) for worker in self.workers for claim in worker.held.values()]
        if not held:
            return None
        worker, claim = held[which % len(held)]
        return worker, claim, self.job(claim.id)

    def job(self, job_id: str) -> ModelJob:
        return next(job for job in self.model.jobs if job.id == job_id)

    @rule(
        which=NUMBER,
        ending=st.sampled_from(list(Ending)),
        after=st.sampled_from([0.0, 0.0, 5.0]),
        keep=st.sampled_from([None, None, 0.0]),
        result_ttl=st.sampled_from([None, 5.0]),
    )
    def finish(
        self, which: int, ending: Ending, after: float, keep: float | None, result_ttl: float | None
    ) -> None:
        found = self.held(which)
        if found is None:
            return
        worker, claim, job = found
        result = '"result"' if ending is Ending.SUCCESSFUL else None
        assert worker.finish(
            claim, ending, result=result, after=after, keep=keep, result_ttl=result_ttl
        )
        worker.registration.slots.give_back(claim.ticket)
        self.model.finish(job, ending, after=after, keep=keep, result_ttl=result_ttl)
        self.model.admit([job.new.concurrency_key], [job.new.rate_key])

    @rule(which=NUMBER, log=LOG, done=st.sampled_from([None, 3.0]))
    def report(self, which: int, log: str, done: float | None) -> None:
        found = self.held(which)
        if found is None or found[2].id not in self.started:
            return
        worker, claim, job = found
        worker.sqlite_store.report([report(claim, log, done)])
        self.model.report(job, log)

    @rule(which=NUMBER, wrong=st.sampled_from(["attempt", "worker", "state"]), ending=NUMBER)
    def finish_too_late(self, which: int, wrong: str, ending: int) -> None:
        """An outcome of an attempt that this worker does not hold changes nothing."""
        if not self.model.jobs:
            return
        job = self.model.jobs[which % len(self.model.jobs)]
        seq = self.store.query("SELECT seq FROM jobs WHERE id = ?", job.id)[0][0]
        holder = next((worker for worker in self.workers if worker.id == job.worker), None)
        other = next(worker for worker in self.workers if worker is not holder)
        attempt = job.attempt
        if wrong == "attempt":
            attempt, sender = attempt - 1, holder or other
        elif wrong == "worker":
            sender = other
        elif job.state != "running":
            sender = holder or other
        else:
            return
        stale = stale_claim(seq, job.id, attempt)
        late = outcome(stale, self.store.clock(), list(Ending)[ending % len(Ending)])
        assert sender.sqlite_store.exchange([late], {}).refused == [late]
        sender.sqlite_store.report([report(stale, "late", 99.0)])
        sender.sqlite_store.give_back([stale])

    @rule(which=NUMBER, delay=st.sampled_from([0.0, 5.0]))
    def give_back(self, which: int, delay: float) -> None:
        found = self.held(which)
        if found is None:
            return
        worker, claim, job = found
        worker.give_back(claim, delay=delay)
        self.model.unclaim(job, delay)
        self.model.admit([job.new.concurrency_key], [job.new.rate_key])

    @rule(which=NUMBER)
    def die(self, which: int) -> None:
        """A worker is killed; another finds it dead and puts its jobs back."""
        number = which % WORKERS
        worker = self.workers[number]
        worker.die()
        held = [self.job(job_id) for job_id in worker.held]
        assert self.store.recover() == ([(worker.id, len(held))] if held else [])
        for job in sorted(held, key=lambda job: job.age):
            if job.id in self.started:
                self.model.finish(job, Ending.CRASHED, after=0.0, keep=None, result_ttl=None)
            else:
                self.model.unclaim(job, 0.0)
        self.model.admit(
            [job.new.concurrency_key for job in held], [job.new.rate_key for job in held]
        )
        worker.close()
        self.workers[number] = self.store.worker()

    # --- change ---

    @precondition(lambda self: self.model.jobs)
    @rule(which=NUMBER, force=st.booleans())
    def cancel(self, which: int, force: bool) -> None:
        job = self.model.jobs[which % len(self.model.jobs)]
        if not job.status.is_finished:
            self.store.engine.cancel(job.id, force=force)
            self.model.cancel(job, force=force)
        else:
            with pytest.raises(InvalidTransition):
                self.store.engine.cancel(job.id, force=force)

    @precondition(lambda self: self.model.jobs)
    @rule(which=NUMBER)
    def retry(self, which: int) -> None:
        job = self.model.jobs[which % len(self.model.jobs)]
        if job.state in ("failed", "cancelled"):
            self.store.engine.retry(job.id)
            self.model.retry(job)
        else:
            with pytest.raises(InvalidTransition):
                self.store.engine.retry(job.id)

    @rule(queue=st.sampled_from(QUEUES))
    def pause(self, queue: str) -> None:
        self.store.engine.pause(queue)
        self.model.pause(queue)

    @rule(queue=st.sampled_from(QUEUES))
    def resume(self, queue: str) -> None:
        self.store.engine.resume(queue)
        self.model.resume(queue)

    # --- time ---

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 11.0, 200.0, -3.0, -60.0]))
    def tick(self, seconds: float) -> None:
        self.store.clock.tick(seconds)
        self.model.now = self.store.clock()
        self.workers[0].sqlite_store.promote()
        self.model.promote()

    @rule(keep_count=st.sampled_from([1, 3, 1000]))
    def prune(self, keep_count: int) -> None:
        self.store.prune(keep_count)
        self.model.prune(keep_count)

    @rule()
    def analyze(self) -> None:
        """New statistics, and so other plans, as a server makes them at any moment."""
        self.store.execute("ANALYZE jobs")

    # --- compare ---

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        real = self.store.query(f"SELECT {COLUMNS} FROM jobs ORDER BY seq")
        assert real == [
            (
                job.id,
                job.state,
                job.lane,
                job.attempt,
                job.failures,
                job.crashes,
                job.cancel,
                job.worker,
                job.run_after,
                job.unique_key,
                job.expires_at,
            )
            for job in self.model.jobs
        ]

        logs = self.store.query(
            "SELECT id, logs.attempt, lines FROM logs LEFT JOIN jobs USING (seq)"
        )
        assert sorted(logs) == sorted(
            (job.id, attempt, lines)
            for job in self.model.jobs
            for attempt, lines in job.logs.items()
        )

    @invariant()
    def keeps_its_promises(self) -> None:
        """What must hold whatever the model says."""
        if not hasattr(self, "model"):
            return
        rows = self.store.query(
            "SELECT state, worker, attempt, expires_at, finished_at, unique_key, cancel FROM jobs"
        )
        alive = {worker.id for worker in self.workers}
        for state, worker, attempt, expires_at, finished_at, _, cancel in rows:
            assert (expires_at is not None) == (finished_at is not None) == (state in FINISHED)
            assert attempt >= 0
            if state == "running":
                assert worker in alive
            elif state not in FINISHED:
                assert worker is None
                assert not cancel, "a job that was asked to stop waits to run"
        keys = [row[5] for row in rows if row[5] is not None]
        assert len(keys) == len(set(keys))
        limits = {("concurrency", key) for key in self.model.concurrency}
        limits |= {("rate", key) for key in self.model.rates}
        assert set(self.store.query("SELECT kind, key FROM limits")) == limits

    @rule()
    def look(self) -> None:
        """The lists and counts that people see tell the same."""
        engine, model = self.store.engine, self.model
        states = [job.status for job in model.jobs]
        assert engine.count() == {status: states.count(status) for status in JobStatus}
        for status in JobStatus:
            listed = [job.id for job in engine.list(JobQuery(status=status, limit=1000))]
            assert listed == [job.id for job in reversed(model.jobs) if job.status is status]
        for info in engine.queues():
            mine = [job.status for job in model.jobs if job.new.queue_name == info.name]
            assert info.ready == mine.count(JobStatus.READY)
            assert info.running == mine.count(JobStatus.RUNNING)
            assert (info.paused_at is not None) == (info.name in model.paused)
        assert {info.name for info in engine.queues()} == model.queues
        for job in model.jobs:
            found = engine.get(job.id)
            assert (found.status, found.attempt) == (job.status, job.attempt)
            kept = job.result_expires_at is None or job.result_expires_at > self.model.now
            has_result = job.has_result and job.state == "successful" and kept
            assert (found.result is not None) == has_result
            assert engine.arguments(job.id) == job.new.args


def report(claim: Claim, log: str, done: float | None) -> Report:
    """Progress of an attempt and its log; the log alone if there is no progress."""
    total = None if done is None else 10.0
    return Report(claim.seq, claim.attempt, done, total, None, None, log)


def compare(store: Store) -> None:
    """Do many things to this store and to the model."""
    StoreMachine.store = store
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt_writes, "MAX_ATTEMPTS", LOGGED_ATTEMPTS)
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_the_store_does_what_the_model_does() -> None:
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder))) as store:
        compare(store)
        assert store.query("PRAGMA integrity_check") == [("ok",)]


@pytest.fixture(scope="module")
def postgres_server(processes: None) -> PostgresServer:
    """The server of this process."""
    return shared_server()


@pytest.mark.timeout(600)
def test_the_postgres_store_does_what_the_model_does(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url, closing(PostgresModelStore(url)) as store:
        compare(store)
