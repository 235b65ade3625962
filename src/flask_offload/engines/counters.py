"""Counters of what became of attempts, and of how long enqueues took, by the minute: for charts,
metrics and alarms.

A worker adds to them along with its outcomes, at most once a second, so that they cost it next to
nothing. Rows of a worker are its own: no worker waits for another's. Older minutes are folded into
coarser ones, and those of yesterday into one total, the minute 0. In these statements `offload.`
stands for the schema.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from socket import gethostname
from typing import Any

from ..jobs.attempt import Outcome
from ..jobs.job import JobStatus
from .attempt_writes import Counted, SqlConnection
from .counter_row import BOUNDS, ENQUEUE_BOUNDS
from .dialect import Dialect

RUNS = [f"r{number}" for number in range(len(BOUNDS) + 1)]
_WAITS = [f"w{number}" for number in range(len(BOUNDS) + 1)]
_SUMS = ["attempts", "ran", "starts", "waited", *RUNS, *_WAITS]
_KEY = ["minute", "task", "ending", "status", "worker"]
_COLUMNS = ", ".join([*_KEY, *_SUMS])
ADDED = ", ".join(f"sum({name})" for name in _SUMS)
_CONFLICT = f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET " + ", ".join(
    f"{name} = counters.{name} + excluded.{name}" for name in _SUMS
)

_MARKS = f"({', '.join('?' * (len(_KEY) + len(_SUMS)))})"

Rows = dict[tuple[Any, ...], list[float]]

WAITED = "WAITED"
"""Stands for the ending where there was no attempt."""

ENQUEUED = "ENQUEUED"
"""Stands for the ending in rows of enqueues: `attempts` are calls, `ran` their seconds, and r0, r1,
… how many took up to each of ENQUEUE_BOUNDS."""

EVERY = 1.0
"""Seconds."""

SQLITE_TABLE = f"""
CREATE TABLE counters (
    minute INTEGER NOT NULL,           -- unix seconds at which it begins; 0: all that is older
    task TEXT NOT NULL,
    ending TEXT NOT NULL,              -- of the attempts
    status TEXT NOT NULL,              -- of their jobs afterwards
    worker TEXT NOT NULL,              -- '': folded
    attempts INTEGER NOT NULL,
    ran REAL NOT NULL,                 -- seconds in all
    starts INTEGER NOT NULL,           -- first attempts, whose wait counts
    waited REAL NOT NULL,              -- seconds in all, from when they were due
    {", ".join(f"{name} INTEGER NOT NULL" for name in [*RUNS, *_WAITS])},
    PRIMARY KEY (minute, task, ending, status, worker)
) STRICT, WITHOUT ROWID;
"""
"""r0, r1, …: how many ran up to each of BOUNDS, and w0, w1, …: how many waited so long."""

POSTGRES_TABLE = (
    SQLITE_TABLE.replace("TABLE ", "TABLE offload.")
    .replace("INTEGER", "bigint")
    .replace("TEXT", "text")
    .replace("REAL", "float8")
    .replace(
        "STRICT, WITHOUT ROWID",
        "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05)",
    )
)

MINUTE, COARSE = 60, 600
FOLD_EVERY = 600.0
"""Seconds."""
FINE_FOR, COARSE_FOR = 2 * 3600.0, 25 * 3600.0
"""Seconds after which minutes are folded into parts of COARSE seconds, and those into the total."""

_OLD = "minute < ? AND minute > 0 AND (minute % ? <> 0 OR worker <> '')"
_FOLDED = f"minute - minute % ?, task, ending, status, '', {ADDED}"
_GROUPS = "GROUP BY 1, 2, 3, 4"
FOLD = f"""
INSERT INTO counters ({_COLUMNS}) SELECT {_FOLDED} FROM counters WHERE {_OLD} {_GROUPS} {_CONFLICT}
"""
DELETE_FOLDED = f"DELETE FROM counters WHERE {_OLD}"
FOLD_AT_ONCE = f"""
WITH gone AS (DELETE FROM offload.counters WHERE {_OLD} RETURNING *)
INSERT INTO offload.counters ({_COLUMNS}) SELECT {_FOLDED} FROM gone {_GROUPS} {_CONFLICT}
"""
"""Of two workers that fold at the same time, each folds what it has deleted."""

ALL = 2**40
"""A unit in which every moment is in the part that begins at 0."""


class Tally:
    """The counters of one worker: what has been counted and is not written yet. At most once in
    EVERY seconds they go along with a transaction that is committed anyway; a worker that is killed
    loses those of that time."""

    def __init__(self, dialect: Dialect, worker_id: str) -> None:
        self._dialect = dialect
        self._worker_id = worker_id
        self._rows: Rows = {}
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether they go along now."""
        return time.monotonic() >= self._next

    def has_rows(self) -> bool:
        """Whether there is something to write."""
        return bool(self._rows)

    def write(self, connection: SqlConnection, counted: Sequence[Counted] = ()) -> None:
        """Write them, and these, inside a transaction of the caller, who then calls `committed`."""
        rows = {key: list(row) for key, row in self._rows.items()}
        _merge(rows, counted, self._worker_id)
        if rows:
            _insert(connection, self._dialect, rows)

    def committed(self, counted: Sequence[Counted] = (), *, written: bool) -> None:
        """These were recorded; written: along with all others."""
        if written:
            self._rows = {}
            self._next = time.monotonic() + EVERY
        else:
            _merge(self._rows, counted, self._worker_id)


class EnqueueTally:
    """How long the enqueues of one process took, as far as it is not written yet. At most once in
    EVERY seconds this goes along with the transaction of an enqueue; what a process has when it
    ends is lost. Threads may use it at the same time."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque()
        self._next = 0.0
        self._pid = os.getpid()

    def add(self, seconds: float) -> None:
        """Count one enqueue."""
        self._seconds.append(seconds)

    def take(self, now: float) -> list[float]:
        """What is to be written now; nothing if it is not due. now: of `time.perf_counter`."""
        if now < self._next:
            return []
        if self._pid != os.getpid():  # forked since: the parent writes what there was
            self._pid = os.getpid()
            self._seconds.clear()
        if not self._seconds:
            return []
        self._next = now + EVERY
        taken = []
        while self._seconds:
            with suppress(IndexError):  # another thread was faster
                taken.append(self._seconds.popleft())
        return taken

    def give_back(self, taken: Sequence[float]) -> None:
        """These were taken, and their transaction was not committed."""
        self._seconds.extend(taken)


def count_enqueues(
    connection: SqlConnection, dialect: Dialect, seconds: Sequence[float], now: float
) -> None:
    """Add enqueues that took so long, inside a transaction of the caller. A process has rows of its
    own, so that none waits for another's commit."""
    row: list[float] = [0] * len(_SUMS)
    row[0], row[1] = len(seconds), sum(seconds)
    for each in seconds:
        row[4 + bisect_left(ENQUEUE_BOUNDS, each)] += 1
    minute = int(now // MINUTE) * MINUTE
    _insert(connection, dialect, {(minute, "", ENQUEUED, "", _process()): row})


def write(
    connection: SqlConnection, dialect: Dialect, worker_id: str, counted: Sequence[Counted]
) -> None:
    """Add what became of the attempts of a dead worker."""
    Tally(dialect, worker_id).write(connection, counted)


def count_cancelled(connection: SqlConnection, dialect: Dialect, task: str, now: float) -> None:
    """Add a job that was cancelled while it waited, inside a transaction of the caller. Threads
    have rows of their own, so that none waits for another's commit."""
    minute = int(now // MINUTE) * MINUTE
    sender = f"{_process()} {threading.get_ident()}"
    key = (minute, task, WAITED, str(JobStatus.CANCELLED), sender)
    _insert(connection, dialect, {key: [1, *[0] * (len(_SUMS) - 1)]})


def _process() -> str:
    return f"{gethostname()} {os.getpid()}"


def _insert(connection: SqlConnection, dialect: Dialect, rows: Rows) -> None:
    statement = (
        f"INSERT INTO offload.counters ({_COLUMNS}) VALUES"
        f" {', '.join([_MARKS] * len(rows))} {_CONFLICT}"
    )
    values = [value for key, row in rows.items() for value in (*key, *row)]
    connection.execute(dialect.sql(statement), tuple(values))


def _merge(rows: Rows, counted: Sequence[Counted], worker_id: str) -> None:
    for each in counted:
        outcome = each.outcome
        minute = int(outcome.finished_at // MINUTE) * MINUTE
        key = (minute, each.task, str(outcome.ending), str(each.status), worker_id)
        row = rows.get(key)
        if row is None:
            row = rows[key] = [0] * len(_SUMS)
        _add(row, outcome, each.due_at)


def _add(row: list[float], outcome: Outcome, due_at: float) -> None:
    ran = max(0.0, outcome.finished_at - outcome.started_at)
    row[0] += 1
    row[1] += ran
    row[4 + bisect_left(BOUNDS, ran)] += 1
    if outcome.attempt == 1:
        waited = max(0.0, outcome.started_at - due_at)
        row[2] += 1
        row[3] += waited
        row[4 + len(RUNS) + bisect_left(BOUNDS, waited)] += 1


def folds(now: float) -> Sequence[tuple[float, int]]:
    """(before, unit) of each folding that is due at this moment."""
    return (now - FINE_FOR, COARSE), (now - COARSE_FOR, ALL)
