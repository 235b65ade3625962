"""What several processes do to one database at once: `python store_processes.py WHAT DATABASE …`.

Each says "ready", waits for the others (a line on its standard input), and prints what it has done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.schedules import ScheduleSpec
from flask_offload.engines.sqlite.claims import SqliteClaims
from flask_offload.engines.sqlite.connection import Connection
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.new_job import THREADS
from store_support import KEEP, START, new_job, outcome, tick


def wait_for_the_others() -> None:
    """The start line of the race."""
    print("ready", flush=True)
    sys.stdin.readline()


def first_use(path: Path) -> object:
    """Be the one who makes the file, or one of those who find it half made."""
    engine = SqliteEngine(path, busy_timeout=30.0)
    wait_for_the_others()
    (record,) = engine.enqueue([new_job()])
    engine.close()
    return record.id


def unique(path: Path, keys: int) -> object:
    """Enqueue a job for each key; those that are new."""
    engine = SqliteEngine(path, durable=False, busy_timeout=30.0)
    engine.count()
    wait_for_the_others()
    records = [engine.enqueue([new_job(unique_key=f"k{key}")])[0] for key in range(keys)]
    engine.close()
    return [[record.id, record.is_duplicate] for record in records]


def ticks(path: Path, times: int) -> object:
    """Look after a schedule as its times come; how many jobs this process enqueued."""
    engine = SqliteEngine(path, durable=False, busy_timeout=30.0)
    spec = ScheduleSpec("s", None, 60.0, None, 0.0, "all", new_job())
    tick(engine, spec, START)
    wait_for_the_others()
    mine = [len(tick(engine, spec, START + 60 * number)) for number in range(1, times + 1)]
    engine.close()
    return sum(mine)


def drain(path: Path, worker: str) -> object:
    """Run all jobs, three at a time; the ids in the order of their starts."""
    engine = SqliteEngine(path, durable=False, busy_timeout=30.0)
    store = SqliteClaims(engine, worker, KEEP)
    done: list[str] = []
    # the first claim comes before the race, so that no scheduler leaves a worker without any
    claims = store.exchange([], {THREADS: 3}).claims
    wait_for_the_others()
    idle_since = None
    while idle_since is None or time.monotonic() < idle_since + 0.3:
        done += [claim.id for claim in claims]
        now = time.time()
        visit = store.exchange(
            [outcome(claim, now, Ending.SUCCESSFUL) for claim in claims], {THREADS: 3}
        )
        assert visit.refused == []
        claims = visit.claims
        idle_since = None if claims else idle_since or time.monotonic()
    engine.close()
    return done


def write(path: Path, seconds: int) -> object:
    """Enqueue as fast as possible for so long; how many."""
    engine = SqliteEngine(path, durable=False, busy_timeout=30.0)
    engine.count()
    wait_for_the_others()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        engine.enqueue([new_job()])
        done += 1
    engine.close()
    return done


def hold(path: Path) -> object:
    """Hold the write lock until told to let go."""
    engine = SqliteEngine(path)

    def work(connection: Connection) -> None:
        connection.execute("UPDATE queues SET name = name").fetchall()
        wait_for_the_others()

    engine.database.write(work)
    engine.close()
    return "let go"


COMMANDS: dict[str, Callable[..., object]] = {
    "first_use": first_use,
    "unique": unique,
    "ticks": ticks,
    "drain": drain,
    "write": write,
    "hold": hold,
}

if __name__ == "__main__":
    what, database, *rest = sys.argv[1:]
    arguments = [int(text) if text.isdigit() else text for text in rest]
    print(json.dumps(COMMANDS[what](Path(database), *arguments)))
