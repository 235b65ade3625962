"""The store as a plain model: what it promises, in lists and loops, without SQL or speed.

`test_store_model.py` does the same things to this and to the real store, and compares.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.job import JobStatus
from flask_offload.jobs.new_job import QUARANTINED, NewJob

HOLDING = ("throttled", "ready", "running")
FINISHED = ("successful", "failed", "cancelled")
STATUS = {
    "scheduled": JobStatus.READY,
    "blocked": JobStatus.READY,
    "throttled": JobStatus.READY,
    "ready": JobStatus.READY,
    "running": JobStatus.RUNNING,
    "successful": JobStatus.SUCCESSFUL,
    "failed": JobStatus.FAILED,
    "cancelled": JobStatus.CANCELLED,
}


@dataclass(eq=False)
class ModelJob:
    """One job."""

    id: str
    age: int
    new: NewJob
    state: str
    lane: str
    unique_key: str | None
    run_after: float | None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    cancel: int = 0
    worker: str | None = None
    expires_at: float | None = None
    has_result: bool = False
    result_expires_at: float | None = None
    logs: dict[int, str] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, int]:
        """Higher priority first, then age."""
        return -self.new.priority, self.age

    @property
    def status(self) -> JobStatus:
        """The public status."""
        return STATUS[self.state]


@dataclass
class Model:
    """All jobs, in the order in which they came. now: unix seconds."""

    keep_successful: float
    keep_failed: float
    max_crashes: int = 3
    logged_attempts: int = 10
    now: float = 0.0
    jobs: list[ModelJob] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)
    queues: set[str] = field(default_factory=set)
    concurrency: dict[str, int] = field(default_factory=dict)
    rates: dict[str, tuple[int, float]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    wakes: dict[str, float | None] = field(default_factory=dict)
    ages: int = 0

    # --- accept ---

    def duplicate_of(self, new: NewJob) -> ModelJob | None:
        """The job that holds the unique key, if it still counts; else the key is free again."""
        holder = next((job for job in self.jobs if job.unique_key == new.unique_key), None)
        if new.unique_key is None or holder is None:
            return None
        states = new.unique_states or {JobStatus.READY, JobStatus.RUNNING}
        recent = new.unique_for is None or holder.new.enqueued_at > self.now - new.unique_for
        if holder.status in states and recent:
            return holder
        holder.unique_key = None
        return None

    def accept(self, new: NewJob, job_id: str) -> None:
        """A new job, before anything is admitted."""
        self.ages += 1
        state = self._line(new)
        if new.run_after is not None and new.run_after > self.now:
            state = "scheduled"
        self.jobs.append(
            ModelJob(job_id, self.ages, new, state, new.lane, new.unique_key, new.run_after)
        )

    def accepted(self, batch: Iterable[NewJob]) -> None:
        """After a batch: its queues and limits count, and what may go on does."""
        news = list(batch)
        self.queues.update(new.queue_name for new in news)
        for new in news:
            if new.concurrency_key is not None:
                self.concurrency[new.concurrency_key] = new.concurrency or 1
            if new.rate_key is not None and new.rate is not None:
                self.rates[new.rate_key] = (new.rate.count, new.rate.window_seconds)
        self.admit([new.concurrency_key for new in news], [new.rate_key for new in news])

    # --- limits ---

    def _line(self, new: NewJob) -> str:
        if new.concurrency_key is not None:
            return "blocked"
        return "throttled" if new.rate_key is not None else "ready"

    def admit(self, keys: Iterable[str | None], rate_keys: Iterable[str | None]) -> None:
        """Let jobs through that hold back for these keys, as far as there is room."""
        rates = set(rate_keys)
        for key in set(keys) - {None}:
            mine = [job for job in self.jobs if job.new.concurrency_key == key]
            room = self.concurrency.get(key or "", 0)
            room -= sum(job.state in HOLDING for job in mine)
            for job in self._waiting(mine, "blocked")[: max(0, room)]:
                job.state = "ready" if job.new.rate_key is None else "throttled"
                rates.add(job.new.rate_key)
        for key in rates - {None}:
            self._admit_rate(key or "")

    def _admit_rate(self, key: str) -> None:
        if key not in self.rates:
            return
        count, window = self.rates[key]
        starts = [at for at in self.starts.get(key, []) if at > self.now - window]
        starts = self.starts[key] = [min(at, self.now) for at in starts]
        mine = [job for job in self.jobs if job.new.rate_key == key]
        room = count - len(starts) - sum(job.state == "ready" for job in mine)
        for job in self._waiting(mine, "throttled")[: max(0, room)]:
            job.state = "ready"
        if not mine and not starts:
            del self.rates[key]
            return
        waits = any(job.state == "throttled" for job in mine)
        look_at = (min(starts) if waits else None if mine else max(starts)) if starts else None
        self.wakes[key] = None if look_at is None else look_at + window

    def _wakes(self, key: str) -> bool:
        """Whether the window has moved on, or the clock was set back by more than it is long."""
        at, window = self.wakes.get(key), self.rates[key][1]
        return at is not None and (at <= self.now or at > self.now + window)

    def _waiting(self, jobs: Iterable[ModelJob], state: str) -> list[ModelJob]:
        waiting = [
            job for job in jobs if job.state == state and job.new.queue_name not in self.paused
        ]
        return sorted(waiting, key=lambda job: job.order)

    # --- run ---

    def claim(
        self, worker: str, room: Mapping[str, int], queues: Collection[str] | None
    ) -> list[ModelJob]:
        """The best jobs for each lane, in the order in which they should start."""
        claimed = []
        for lane, count in room.items():
            ready = [
                job
                for job in self._waiting(self.jobs, "ready")
                if job.lane == lane and (queues is None or job.new.queue_name in queues)
            ]
            claimed += ready[:count]
        for job in claimed:
            job.state, job.worker = "running", worker
            job.attempt += 1
            if job.new.rate_key is not None:
                self.starts.setdefault(job.new.rate_key, []).append(self.now)
        self.admit([], [job.new.rate_key for job in claimed])
        return sorted(claimed, key=lambda job: job.order)

    def finish(
        self,
        job: ModelJob,
        ending: Ending,
        *,
        after: float,
        keep: float | None,
        result_ttl: float | None,
    ) -> None:
        """An attempt has ended; what it held is not given away yet."""
        job.failures += ending in (Ending.FAILED, Ending.RETRY)
        job.crashes += ending is Ending.CRASHED
        spent = job.crashes >= self.max_crashes or job.new.on_crash == "fail"
        if ending is Ending.SUCCESSFUL:
            self._end(job, "successful", self.keep_successful if keep is None else keep)
            job.has_result = True
            job.result_expires_at = None if result_ttl is None else self.now + result_ttl
        elif ending is Ending.FAILED:
            self._end(job, "failed", self.keep_failed if keep is None else keep)
        elif ending is Ending.CANCELLED or job.cancel:
            self._end(job, "cancelled", self.keep_failed if keep is None else keep)
        elif ending is Ending.CRASHED and spent:
            self._end(job, "failed", self.keep_failed if keep is None else keep)
        else:
            job.worker = None
            job.run_after = self.now + after if after else None
            job.state = "scheduled" if after else self._line(job.new)
            if job.crashes == self.max_crashes - 1:
                job.lane = QUARANTINED

    def report(self, job: ModelJob, log: str) -> None:
        """The log of an attempt replaces what it had; those of the last attempts are kept."""
        job.logs[job.attempt] = log
        first = job.attempt - self.logged_attempts + 1
        job.logs = {attempt: lines for attempt, lines in job.logs.items() if attempt >= first}

    def unclaim(self, job: ModelJob, delay: float) -> None:
        """A claimed job that has not started goes back as if nothing had been."""
        job.attempt -= 1
        if job.new.rate_key is not None and self.starts.get(job.new.rate_key):
            self.starts[job.new.rate_key].pop()
        if job.cancel:
            self._end(job, "cancelled", self.keep_failed)
        else:
            job.state = "scheduled" if delay else self._line(job.new)
            job.run_after = self.now + delay if delay else job.run_after
        job.worker = None

    def _end(self, job: ModelJob, state: str, keep: float) -> None:
        job.state = state
        job.expires_at = self.now + keep

    # --- change ---

    def cancel(self, job: ModelJob, *, force: bool) -> None:
        """A waiting job ends; a running one is asked to."""
        if job.state == "running":
            job.cancel = max(job.cancel, 2 if force else 1)
        else:
            self._end(job, "cancelled", self.keep_failed)
            self.admit([job.new.concurrency_key], [job.new.rate_key])

    def retry(self, job: ModelJob) -> None:
        """By hand: like new, but for its age and the number of its attempts."""
        job.failures = job.crashes = job.cancel = 0
        job.worker = job.run_after = job.expires_at = None
        job.state = self._line(job.new)
        self.admit([job.new.concurrency_key], [job.new.rate_key])

    def pause(self, queue: str) -> None:
        """Its jobs don't start, and limited ones give up the room they had."""
        self.paused.add(queue)
        self.queues.add(queue)
        keys: list[str | None] = []
        rates: list[str | None] = []
        for job in self.jobs:
            limited = job.new.concurrency_key is not None or job.new.rate_key is not None
            if job.new.queue_name == queue and limited and job.state in ("throttled", "ready"):
                job.state = self._line(job.new)
                keys.append(job.new.concurrency_key)
                rates.append(job.new.rate_key)
        self.admit(keys, rates)

    def resume(self, queue: str) -> None:
        """Its jobs may start again."""
        self.paused.discard(queue)
        self.queues.add(queue)
        held = [
            job
            for job in self.jobs
            if job.new.queue_name == queue and job.state in ("blocked", "throttled")
        ]
        self.admit([job.new.concurrency_key for job in held], [job.new.rate_key for job in held])

    # --- time ---

    def promote(self) -> None:
        """What is due may go on, and so may rates whose window has moved."""
        due = [
            job
            for job in self.jobs
            if job.state == "scheduled" and job.run_after is not None and job.run_after <= self.now
        ]
        for job in due:
            job.state = self._line(job.new)
        self.admit([job.new.concurrency_key for job in due], [job.new.rate_key for job in due])
        self.admit([], [key for key in self.rates if self._wakes(key)])

    def prune(self, keep_count: int) -> None:
        """Forget what has expired, else what is too much; and results whose time is over."""
        kept = sorted(
            (job for job in self.jobs if job.expires_at is not None),
            key=lambda job: (job.expires_at, job.age),
        )
        gone = [job for job in kept if job.expires_at is not None and job.expires_at <= self.now]
        self.forget(gone or kept[: max(0, len(kept) - keep_count)])
        for job in self.jobs:
            if job.result_expires_at is not None and job.result_expires_at <= self.now:
                job.has_result, job.result_expires_at = False, None

    def forget(self, gone: Collection[ModelJob]) -> None:
        """Delete these jobs, with all that belongs to them."""
        self.jobs = [job for job in self.jobs if job not in gone]
        left = {job.new.concurrency_key for job in self.jobs}
        for key in {job.new.concurrency_key for job in gone} - left - {None}:
            self.concurrency.pop(key or "", None)
        self.admit([], [job.new.rate_key for job in gone])
