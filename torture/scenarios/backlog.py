"""Very many jobs, very many writers, and very long runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from flask_offload import JobStatus
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.admin.sqlite_pruning import prune_finished
from flask_offload.engines.base import JobQuery
from flask_offload.engines.sqlite.claims import SqliteClaims
from flask_offload.engines.sqlite.maintenance import give_space_back
from flask_offload.engines.store import Retention
from flask_offload.jobs.job import new_id
from flask_offload.jobs.new_job import THREADS, NewJob
from proc import descendants
from support import wait_until

from ..app import accept, offload, quick
from ..auditor import Audit
from ..scenario import BOTH, Run, quantile, scenario, show
from ..world import PYTHON

KEEP = Retention(86_400.0, 86_400.0, 10**9)
SAMPLES = 300


@scenario(
    "T12",
    "a million jobs wait and a million are finished (50,000 each in the short form): what enqueue,"
    " claim and the pages' questions cost, against an empty queue; then all are deleted",
)
def backlog(run: Run) -> None:
    jobs = run.size(50_000, 1_000_000)
    folder = run.new_folder()
    empty = SqliteEngine(folder / "empty.sqlite3", durable=False)
    full = SqliteEngine(folder / "full.sqlite3", durable=False)
    try:
        _fill(full, jobs)
        _finish_all(full, expires_at=KEEP.successful + time.time())
        _fill(full, jobs)
        for name, what in {"enqueue": _enqueue_one, "claim": _claim_one}.items():
            small, large = (sorted(times) for times in _compare(empty, full, what))
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                of_each = (show(quantile(times, share)) for times in (small, large))
                run.figure(f"{name}, {label}", "{} empty, {} full".format(*of_each))
            ratio = median(large) / median(small)
            run.gate(f"{name} costs at most 1.3 times", f"{ratio:.2f}", ratio <= 1.3)
        for name, ask in QUESTIONS.items():
            took = _time(lambda ask=ask: ask(full))  # type: ignore[misc]
            run.gate(f"{name} takes at most a second", show(took), took <= 1.0)
        _prune_all(run, full)
    finally:
        empty.close()
        full.close()


def _fill(engine: SqliteEngine, jobs: int) -> None:
    for _ in range(jobs // 1000):
        engine.enqueue([_job() for _ in range(1000)])


def _finish_all(engine: SqliteEngine, *, expires_at: float) -> None:
    """As if all had been run, long ago. expires_at: until when they are kept all the same."""
    engine.database.write(
        lambda connection: connection.execute(
            "UPDATE jobs SET state = 'successful', finished_at = 1.0, expires_at = ?",
            (expires_at,),
        ).fetchall()
    )
    engine.database.checkpoint()


def _job() -> NewJob:
    return NewJob(
        id=new_id(), task="t", queue_name="default", priority=0, enqueued_at=time.time(), args="[]"
    )


def _enqueue_one(engine: SqliteEngine) -> None:
    engine.enqueue([_job()])


def _claim_one(engine: SqliteEngine) -> None:
    engine.enqueue([_job()])
    began = time.perf_counter()
    visit = SqliteClaims(engine, "w1", KEEP).exchange([], {THREADS: 1})
    _claim_one.took = time.perf_counter() - began  # type: ignore[attr-defined]
    assert len(visit.claims) == 1


def _compare(
    empty: SqliteEngine, full: SqliteEngine, what: Callable[[SqliteEngine], None]
) -> tuple[list[float], list[float]]:
    """How long many calls took on either, in turns, so that the machine's moods hit both alike."""
    times: dict[SqliteEngine, list[float]] = {empty: [], full: []}
    for _ in range(SAMPLES):
        for engine, found in times.items():
            began = time.perf_counter()
            what(engine)
            whole = time.perf_counter() - began
            found.append(getattr(what, "took", whole) if what is _claim_one else whole)
    return times[empty], times[full]


QUESTIONS: dict[str, Callable[[SqliteEngine], object]] = {
    "counting by status": lambda engine: engine.count(),
    "the newest fifty": lambda engine: engine.list(JobQuery(limit=50)),
    "the newest fifty that failed": lambda engine: engine.list(
        JobQuery(status=JobStatus.FAILED, limit=50)
    ),
    "the newest fifty that succeeded": lambda engine: engine.list(
        JobQuery(status=JobStatus.SUCCESSFUL, limit=50)
    ),
    "those that run": lambda engine: engine.list(JobQuery(status=JobStatus.RUNNING, limit=50)),
    "the newest fifty that wait": lambda engine: engine.list(
        JobQuery(status=JobStatus.READY, limit=50)
    ),
    "the two hundredth page": lambda engine: engine.list(JobQuery(limit=50, offset=10_000)),
    "one job by its id": lambda engine: engine.get(engine.list(JobQuery(limit=1))[0].id),
    "the schedules": lambda engine: list(engine.schedules()),
    "the queues": lambda engine: list(engine.queues()),
}


def _time(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _prune_all(run: Run, engine: SqliteEngine) -> None:
    """Finish all jobs by a statement, delete them, and see what the disk has got back."""
    _finish_all(engine, expires_at=1.0)
    before = engine.database.path.stat().st_size
    longest, last, gone = 0.0, 0, 1
    while gone:
        began = time.perf_counter()
        gone, _, last = prune_finished(engine, time.time(), last)
        longest = max(longest, time.perf_counter() - began)
    while give_space_back(engine):
        pass
    engine.database.checkpoint()
    after = engine.database.path.stat().st_size
    run.figure("the file", f"{before / 1e6:.1f} MB, after deleting all {after / 1e6:.2f} MB")
    run.gate("deleting gives the space back", f"{after / before:.1%}", after < before / 10)
    run.figure("longest batch of deletions", show(longest))


@scenario(
    "T13",
    "sixteen processes enqueue at once, as fast as they can, and then each at most fifty times a"
    " second",
    stores=BOTH,
)
def contention(run: Run) -> None:
    share = run.size(50, 80)  # percent of the mean; a short run is uneven
    fast, slow = (_write_together(run, pause) for pause in (0.0, 0.02))
    mean = sum(fast.shares) / WRITERS
    run.figure("jobs accepted a second, at most", f"{sum(fast.shares) / fast.seconds:,.0f}")
    run.times("enqueue, as fast as they can", fast.waits)
    ordered = run.times("enqueue, fifty times a second", slow.waits)
    refused = fast.refused + slow.refused
    fast.audit.add(slow.audit)
    run.judge(fast.audit, may_wait=True)
    run.gate("no writer was refused", refused, refused == 0)
    slowest = min(fast.shares) / mean
    run.gate("the slowest has its share", f"{slowest:.0%} of the mean", slowest >= share / 100)
    most = run.size(500, 50)
    p99 = quantile(ordered, 0.99)
    run.gate(f"p99 of an enqueue <= {most} ms", show(p99), p99 <= most / 1000)


WRITERS = 16
WRITER = """
import sys, time
from flask_offload import EngineUnavailable
from torture.app import create_app, quick
from torture.event_log import note
with create_app().app_context():
    while True:
        began = time.monotonic()
        try:
            job = quick.enqueue()
        except EngineUnavailable as error:
            note("refused", type(error).__name__)
        else:
            note("accepted", job.id, f"{time.monotonic() - began:.6f}")
        time.sleep(float(sys.argv[1]))
"""


class Crowd(NamedTuple):
    """Of sixteen writers: how many jobs each has got in, and how long each enqueue took."""

    seconds: float
    shares: list[int]
    waits: list[float]
    refused: int
    audit: Audit


def _write_together(run: Run, pause: float) -> Crowd:
    seconds = run.size(3, 60)
    with run.world() as world:
        with world.here():
            accept(quick.enqueue())
        processes = [world.start([PYTHON, "-c", WRITER, f"{pause}"]) for _ in range(WRITERS)]
        pids = [f"{process.pid}" for process in processes]
        wait_until(lambda: {words[1] for words in world.lines("accepted")} >= {*pids}, 60)
        begin = len(world.lines("accepted"))
        time.sleep(seconds)
        lines = world.lines("accepted")[begin:]
        shares = Counter(words[1] for words in lines)
        refused = len(world.lines("refused"))
        for process in processes:
            world.kill("enqueuer", process.pid)
        audit = world.audit()
    waits = [float(words[3]) for words in lines]
    return Crowd(seconds, [shares[pid] for pid in pids], waits, refused, audit)


@scenario(
    "T20",
    "a worker runs small jobs without end: its memory, its descriptors, the file",
    stores=BOTH,
)
def soak(run: Run) -> None:
    seconds = run.length or run.size(10, 300)
    least = 0 if run.length else run.size(0, 1_000_000)
    env: dict[str, Any] = {
        "FLASK_OFFLOAD_KEEP_SUCCESSFUL": "5",
        "FLASK_OFFLOAD_KEEP_COUNT": "20000",
    }
    done = 0
    samples: list[tuple[int, int, int]] = []
    with run.world(**env) as world, world.here():
        worker = world.worker()
        began = time.monotonic()
        until = began + seconds
        while time.monotonic() < until or done < least:
            offload.enqueue_many([quick.call() for _ in range(1000)])
            world.quiesce(60)
            assert not world.unfinished(), f"the worker stands still: {worker}"
            done += 1000
            family = [worker.pid, *descendants(worker.pid)]
            size = world.store.size()
            samples.append((sum(map(_memory, family)), sum(map(_descriptors, family)), size))
        world.close()
    settled = samples[len(samples) // 4 :]
    half = len(settled) // 2
    early, late = (median(s[0] for s in part) for part in (settled[:half], settled[half:]))
    run.figure("jobs", f"{done:,} in {time.monotonic() - began:.0f} s")
    run.figure("memory of the worker", f"{early / 1e6:.1f} MB, later {late / 1e6:.1f} MB")
    run.figure("database at most", f"{max(s[2] for s in samples) / 1e6:.1f} MB")
    run.gate("memory is flat (+5% at most)", f"{late / early - 1:+.1%}", late <= early * 1.05)
    before, after = (max(s[2] for s in part) for part in (settled[:half], settled[half:]))
    if run.long:  # a short run ends before retention has done its work
        run.gate("the file is bounded", f"{after / before - 1:+.0%}", after <= before * 1.2)
    counts = {s[1] for s in settled}
    run.gate(
        "descriptors are flat", f"{min(counts)} to {max(counts)}", max(counts) <= min(counts) + 2
    )


def _memory(pid: int) -> int:
    """Bytes that are the process's own or its share of what it shares (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@scenario(
    "T10",
    "six processes write while others empty the log all the time: the bug that older SQLites have"
    " would destroy the database",
)
def log_resets(run: Run) -> None:
    seconds = run.length or run.size(6, 300)
    checkpoints = 0
    with run.world() as world:
        with world.here():
            accept(quick.enqueue())
        processes = [world.enqueuer(10**7, run.report.seed + n, 0.0) for n in range(6)]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            world.sqlite.database.checkpoint()
            checkpoints += 1
        for process in processes:
            world.kill("enqueuer", process.pid)
        audit = world.audit()
    run.figure("checkpoints", f"{checkpoints:,} in {seconds:.0f} s")
    run.judge(audit, may_wait=True)
