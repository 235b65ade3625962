"""Very many jobs, very many writers, and very long runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from flask_offload import JobStatus
from flask_offload.engines.base import THREADS, JobQuery, NewJob
from flask_offload.engines.sqlite import SqliteEngine
from flask_offload.engines.sqlite.ledger import Ledger, Retention
from flask_offload.engines.sqlite.upkeep import give_space_back, prune_finished
from flask_offload.job import new_id
from proc import descendants

from ..app import accept, offload, quick
from ..scenario import Run, scenario, show
from ..world import World

KEEP = Retention(86_400.0, 86_400.0, 10**9)
SAMPLES = 300


@scenario(
    "T12",
    "a million jobs wait (50,000 in the short form): what enqueue, claim and the pages' questions"
    " cost, against an empty queue; then all are deleted",
)
def backlog(run: Run) -> None:
    jobs = run.size(50_000, 1_000_000)
    folder = run.new_folder()
    empty = SqliteEngine(folder / "empty.sqlite3", durable=False)
    full = SqliteEngine(folder / "full.sqlite3", durable=False)
    try:
        for _ in range(jobs // 1000):
            full.enqueue([_job() for _ in range(1000)])
        ratios = {
            name: _compare(empty, full, what)
            for name, what in {"enqueue": _enqueue_one, "claim": _claim_one}.items()
        }
        for name, (small, large, ratio) in ratios.items():
            run.figure(f"{name}, p50", f"{show(small)} empty, {show(large)} with {jobs:,}")
            run.gate(f"{name} costs at most 1.3 times", f"{ratio:.2f}", ratio <= 1.3)
        for name, ask in QUESTIONS.items():
            took = _time(lambda ask=ask: ask(full))  # type: ignore[misc]
            run.gate(f"{name} takes at most a second", show(took), took <= 1.0)
        _prune_all(run, full)
    finally:
        empty.close()
        full.close()


def _job() -> NewJob:
    return NewJob(
        id=new_id(), task="t", queue_name="default", priority=0, enqueued_at=time.time(), args="[]"
    )


def _enqueue_one(engine: SqliteEngine) -> None:
    engine.enqueue([_job()])


def _claim_one(engine: SqliteEngine) -> None:
    engine.enqueue([_job()])
    began = time.perf_counter()
    visit = Ledger(engine, "w1", KEEP).exchange([], {THREADS: 1})
    _claim_one.took = time.perf_counter() - began  # type: ignore[attr-defined]
    assert len(visit.claims) == 1


def _compare(
    empty: SqliteEngine, full: SqliteEngine, what: Callable[[SqliteEngine], None]
) -> tuple[float, float, float]:
    """The median of many calls on either, in turns, so that the machine's moods hit both alike."""
    times: dict[SqliteEngine, list[float]] = {empty: [], full: []}
    for _ in range(SAMPLES):
        for engine, found in times.items():
            began = time.perf_counter()
            what(engine)
            whole = time.perf_counter() - began
            found.append(getattr(what, "took", whole) if what is _claim_one else whole)
    small, large = (median(found) for found in times.values())
    return small, large, large / small


QUESTIONS: dict[str, Callable[[SqliteEngine], object]] = {
    "counting by status": lambda engine: engine.count(),
    "the newest fifty": lambda engine: engine.list(JobQuery(limit=50)),
    "the newest fifty that failed": lambda engine: engine.list(
        JobQuery(status=JobStatus.FAILED, limit=50)
    ),
    "the queues": lambda engine: list(engine.queues()),
}


def _time(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _prune_all(run: Run, engine: SqliteEngine) -> None:
    """Finish all jobs by a statement, delete them, and see what the disk has got back."""
    engine.database.write(
        lambda connection: connection.execute(
            "UPDATE jobs SET state = 'successful', finished_at = 1.0, expires_at = 1.0"
        ).fetchall()
    )
    engine.database.checkpoint()
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


@scenario("T13", "sixteen processes enqueue at once, as fast as they can")
def contention(run: Run) -> None:
    writers, seconds = 16, run.size(4, 60)
    with World(run.new_folder()) as world:
        with world.here():
            accept(quick.enqueue())
        processes = [world.enqueuer(10**6, run.report.seed + n, 0.0) for n in range(writers)]
        world.wait_for_lines("accepted", 200)
        begin = len(world.lines("accepted"))
        time.sleep(seconds)
        shares: dict[str, int] = {f"{process.pid}": 0 for process in processes}
        for words in world.lines("accepted")[begin:]:
            if words[1] in shares:
                shares[words[1]] += 1
        refused = len(world.lines("refused"))
        for process in processes:
            world.kill("enqueuer", process.pid)
        audit_ready = world.unfinished()
    mean = sum(shares.values()) / writers
    slowest = min(shares.values()) / mean
    run.figure("jobs accepted a second", f"{sum(shares.values()) / seconds:,.0f}")
    run.figure("left waiting", audit_ready)
    run.gate("nobody was refused", refused, refused == 0)
    run.gate("the slowest has its share", f"{slowest:.0%} of the mean", slowest >= 0.5)


@scenario("T20", "a worker runs small jobs without end: its memory, its descriptors, the file")
def soak(run: Run) -> None:
    seconds = run.length or run.size(10, 300)
    env: dict[str, Any] = {
        "FLASK_OFFLOAD_KEEP_SUCCESSFUL": "5",
        "FLASK_OFFLOAD_KEEP_COUNT": "20000",
    }
    done = 0
    samples: list[tuple[int, int, int]] = []
    with World(run.new_folder(), **env) as world, world.here():
        worker = world.worker()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            offload.enqueue_many([quick.call() for _ in range(1000)])
            world.quiesce(60)
            done += 1000
            family = [worker.pid, *descendants(worker.pid)]
            size = world.database.stat().st_size
            samples.append((sum(map(_memory, family)), sum(map(_descriptors, family)), size))
        world.close()
    settled = samples[len(samples) // 4 :]
    half = len(settled) // 2
    early, late = (median(s[0] for s in part) for part in (settled[:half], settled[half:]))
    run.figure("jobs", f"{done:,} in {seconds:.0f} s")
    run.figure("memory of the worker", f"{early / 1e6:.1f} MB, later {late / 1e6:.1f} MB")
    run.figure("database at most", f"{max(s[2] for s in samples) / 1e6:.1f} MB")
    run.gate("memory is flat (+5 % at most)", f"{late / early - 1:+.1%}", late <= early * 1.05)
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
    with World(run.new_folder()) as world:
        with world.here():
            accept(quick.enqueue())
        processes = [world.enqueuer(10**7, run.report.seed + n, 0.0) for n in range(6)]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            world.engine.database.checkpoint()
            checkpoints += 1
        for process in processes:
            world.kill("enqueuer", process.pid)
        audit = world.audit()
    run.figure("checkpoints", f"{checkpoints:,} in {seconds:.0f} s")
    run.judge(audit, may_wait=True)
