"""The worker half of the embedded engine: claim jobs, and write down what became of them.

Every write about a job is fenced: it counts only while the very attempt that it speaks of is still
held by this worker. What comes too late (from a worker that was stopped or given up) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ...attempt import Claim, Ending, Outcome, Report
from ...job import Error
from ..base import ISOLATED
from .admission import admit, note_starts, wake_rates
from .connection import Connection
from .engine import SqliteEngine

MAX_CRASHES = 3
"""Attempts whose process may die before the job is given up: it may be what kills it."""

PROMOTE_BATCH = 1000

FENCE = "seq = ? AND attempt = ? AND worker = ? AND state = 'running'"

PICK = """
SELECT seq, priority FROM jobs WHERE state = 'ready' AND lane = ? AND queue_name = ?
ORDER BY priority DESC, seq LIMIT ?
"""

CLAIM = """
UPDATE jobs SET state = 'running', worker = ?, attempt = attempt + 1, started_at = ?, done = NULL,
    total = NULL, message = NULL
WHERE seq IN (SELECT value FROM json_each(?)) AND state = 'ready'
RETURNING seq, id, task, queue_name, lane, priority, attempt, failures, crashes, on_crash, owner,
    origin, enqueued_at, started_at,
    coalesce(args, (SELECT args FROM payloads WHERE payloads.seq = jobs.seq)), context, cursor,
    rate_key
"""

SUCCEED = f"""
UPDATE jobs SET state = 'successful', started_at = ?, finished_at = ?, expires_at = ?
WHERE {FENCE} RETURNING concurrency_key, rate_key, cursor
"""

END = f"""
UPDATE jobs SET state = ?, failures = ?, crashes = ?, started_at = ?, finished_at = ?,
    expires_at = ?
WHERE {FENCE}
"""

READY_AGAIN = f"""
UPDATE jobs SET worker = NULL, failures = ?, crashes = ?, started_at = ?, lane = ?, run_after = ?,
    state = CASE WHEN ? THEN 'scheduled' WHEN concurrency_key IS NOT NULL THEN 'blocked'
        WHEN rate_key IS NOT NULL THEN 'throttled' ELSE 'ready' END
WHERE {FENCE}
"""

UNCLAIM = f"""
UPDATE jobs SET state = ?, attempt = attempt - 1, worker = NULL, started_at = NULL, run_after = ?
WHERE {FENCE} RETURNING rate_key
"""

ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

PROMOTE = f"""
UPDATE jobs SET state = CASE WHEN concurrency_key IS NOT NULL THEN 'blocked'
    WHEN rate_key IS NOT NULL THEN 'throttled' ELSE 'ready' END
WHERE seq IN (
    SELECT seq FROM jobs WHERE state = 'scheduled' AND run_after <= ?
    ORDER BY run_after LIMIT {PROMOTE_BATCH}
) RETURNING concurrency_key, rate_key
"""

NEXT_DUE = """
SELECT min(at) FROM (
    SELECT min(run_after) AS at FROM jobs WHERE state = 'scheduled'
    UNION ALL SELECT min(wake_at) FROM limits WHERE wake_at IS NOT NULL
)
"""


@dataclass
class Exchange:
    """What one visit to the database brought."""

    claims: list[Claim] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)
    """Outcomes that came too late: the attempt was no longer ours."""
    stray_files: list[str] = field(default_factory=list)
    """Spooled files that no job needs any more."""


@dataclass(frozen=True)
class Retention:
    """How long finished jobs are kept, in seconds, and how many at most."""

    successful: float
    failed: float
    count: int


class Ledger:
    """The database as one worker sees it. Errors: the subclasses of EngineUnavailable.

    queues: the only queues it serves; None: all.
    """

    def __init__(
        self,
        engine: SqliteEngine,
        worker_id: str,
        retention: Retention,
        queues: Collection[str] | None = None,
    ) -> None:
        self.engine = engine
        self.worker_id = worker_id
        self._retention = retention
        self._queues = frozenset(queues) if queues is not None else None

    # --- claim and finish ---

    def exchange(self, outcomes: Sequence[Outcome], room: Mapping[str, int]) -> Exchange:
        """Write the outcomes down and claim as many jobs as each lane has room for, at once."""
        now = self.engine.clock()
        outcome = self.engine.database.write(
            lambda connection: self._exchange(connection, outcomes, room, now),
            promise=bool(outcomes),
        )
        if any(claim.on_crash == "fail" for claim in outcome.claims):
            # such a job must not run twice, so its claim must not be lost by a power cut
            self.engine.database.write(self._note_promise)
        return outcome

    def _exchange(
        self,
        connection: Connection,
        outcomes: Sequence[Outcome],
        room: Mapping[str, int],
        now: float,
    ) -> Exchange:
        visit = Exchange()
        concurrency_keys, rate_keys = set(), set()
        for outcome in outcomes:
            keys = self._finish(connection, outcome, now, visit)
            if keys is None:
                visit.refused.append(outcome)
            else:
                concurrency_keys.add(keys[0])
                rate_keys.add(keys[1])
        admit(connection, now, concurrency_keys, rate_keys)
        visit.claims = self._claim(connection, room, now)
        return visit

    def _claim(self, connection: Connection, room: Mapping[str, int], now: float) -> list[Claim]:
        names = self._served_queues(connection)
        picked: list[int] = []
        for lane, count in room.items():
            if count <= 0:
                continue
            ready: list[tuple[int, int]] = []
            for name in names:
                ready += connection.execute(PICK, (lane, name, count)).fetchall()
            if len(names) > 1:
                ready.sort(key=lambda row: (-row[1], row[0]))
            picked += [seq for seq, _ in ready[:count]]
        if not picked:
            return []
        rows = connection.execute(CLAIM, (self.worker_id, now, json.dumps(picked))).fetchall()
        note_starts(connection, now, [row[-1] for row in rows if row[-1] is not None])
        claims = [Claim(*row[:-1]) for row in rows]
        claims.sort(key=lambda claim: (-claim.priority, claim.seq))
        return claims

    def _served_queues(self, connection: Connection) -> list[str]:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM queues WHERE paused_at IS NULL")
        ]
        return names if self._queues is None else [name for name in names if name in self._queues]

    def _note_promise(self, connection: Connection) -> None:
        connection.execute(
            "UPDATE workers SET started_at = started_at WHERE id = ?", (self.worker_id,)
        )

    def _finish(
        self, connection: Connection, outcome: Outcome, now: float, visit: Exchange
    ) -> tuple[str | None, str | None] | None:
        """Write one outcome; its limit keys, or None if it came too late."""
        if outcome.ending is not Ending.SUCCESSFUL:
            return self._finish_badly(connection, outcome, now)
        keep = self._retention.successful if outcome.keep is None else outcome.keep
        row = connection.execute(
            SUCCEED,
            (outcome.started_at, outcome.finished_at, now + keep, *self._fence(outcome)),
        ).fetchall()
        if not row:
            return None
        if outcome.result is not None:
            ttl = outcome.result_ttl
            connection.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?)",
                (outcome.seq, outcome.result, None if ttl is None else now + ttl),
            )
        visit.stray_files += _forget_files(connection, outcome.seq)
        return row[0][0], row[0][1]

    def _finish_badly(
        self, connection: Connection, outcome: Outcome, now: float
    ) -> tuple[str | None, str | None] | None:
        fence = self._fence(outcome)
        row = connection.execute(
            "SELECT concurrency_key, rate_key, failures, crashes, on_crash, cancel, lane"
            f" FROM jobs WHERE {FENCE}",
            fence,
        ).fetchone()
        if row is None:
            return None
        concurrency_key, rate_key, failures, crashes, on_crash, cancel, lane = row
        ending = outcome.ending
        failures += ending in (Ending.FAILED, Ending.RETRY)
        crashes += ending is Ending.CRASHED
        again = ending in (Ending.RETRY, Ending.INTERRUPTED, Ending.CRASHED)
        state = {Ending.FAILED: "failed", Ending.CANCELLED: "cancelled"}.get(ending)
        if again and cancel:
            state = "cancelled"
        elif ending is Ending.CRASHED and (on_crash == "fail" or crashes >= MAX_CRASHES):
            state = "failed"
            outcome = _given_up(outcome, crashes, on_crash)
        elif ending is Ending.INTERRUPTED and on_crash == "fail" and outcome.error is not None:
            state = "failed"  # cut short without a checkpoint, and it may not run twice
        self._note_attempt(connection, outcome, ending)
        if state is not None:
            keep = self._retention.failed if outcome.keep is None else outcome.keep
            connection.execute(
                END,
                (
                    state,
                    failures,
                    crashes,
                    outcome.started_at,
                    outcome.finished_at,
                    now + keep,
                    *fence,
                ),
            )
        else:
            # suspected of killing its process, it runs its last time where it harms nobody
            lane = ISOLATED if crashes == MAX_CRASHES - 1 else lane
            later = outcome.after > 0
            run_after = now + outcome.after if later else None
            connection.execute(
                READY_AGAIN,
                (failures, crashes, outcome.started_at, lane, run_after, later, *fence),
            )
        return concurrency_key, rate_key

    def _note_attempt(self, connection: Connection, outcome: Outcome, ending: Ending) -> None:
        error = outcome.error
        connection.execute(
            ATTEMPT,
            (
                outcome.seq,
                outcome.attempt,
                self.worker_id,
                outcome.started_at,
                outcome.finished_at,
                ending,
                error and error.type,
                error and error.message,
                error and error.traceback,
            ),
        )

    def _fence(self, held: Outcome | Claim | Report) -> tuple[int, int, str]:
        return held.seq, held.attempt, self.worker_id

    # --- give back ---

    def give_back(self, claims: Iterable[Claim], *, delay: float = 0.0) -> None:
        """Jobs that were claimed and never started become READY again, at no cost.

        delay: seconds before anybody may claim them, for those that this worker can't run.
        """
        now = self.engine.clock()

        def work(connection: Connection) -> None:
            for claim in claims:
                self._unclaim(connection, claim, now + delay if delay else None)

        self.engine.database.write(work, promise=False)

    def _unclaim(
        self, connection: Connection, held: Claim | Outcome, run_after: float | None
    ) -> None:
        state = "ready" if run_after is None else "scheduled"
        rates = connection.execute(UNCLAIM, (state, run_after, *self._fence(held))).fetchall()
        for (key,) in rates:  # what has not started does not count as a start
            connection.execute(
                "DELETE FROM starts WHERE rowid ="
                " (SELECT max(rowid) FROM starts WHERE rate_key = ?)",
                (key,),
            )

    def put_back(
        self,
        connection: Connection,
        crashed: Outcome,
        now: float,
        visit: Exchange,
        *,
        had_started: bool,
    ) -> None:
        """Deal with a job whose process died, inside a transaction of the caller."""
        if had_started:
            keys = self._finish(connection, crashed, now, visit)
            if keys is not None:
                admit(connection, now, [keys[0]], [keys[1]])
        else:
            self._unclaim(connection, crashed, None)

    # --- while they run ---

    def report(self, reports: Iterable[Report]) -> None:
        """Write down progress and cursors."""

        def work(connection: Connection) -> None:
            for report in reports:
                connection.execute(
                    "UPDATE jobs SET done = ?, total = ?, message = ?,"
                    f" cursor = coalesce(?, cursor) WHERE {FENCE}",
                    (
                        report.done,
                        report.total,
                        report.message,
                        report.cursor,
                        *self._fence(report),
                    ),
                )

        self.engine.database.write(work, promise=False)

    def cancellations(self) -> list[tuple[int, int, bool]]:
        """(seq, attempt, by force) of this worker's jobs that somebody wants stopped."""

        def work(connection: Connection) -> list[tuple[int, int, bool]]:
            rows = connection.execute(
                "SELECT seq, attempt, cancel FROM jobs"
                " WHERE state = 'running' AND cancel > 0 AND worker = ?",
                (self.worker_id,),
            ).fetchall()
            return [(seq, attempt, cancel == 2) for seq, attempt, cancel in rows]

        return self.engine.database.read(work)

    # --- time ---

    def next_due(self) -> float | None:
        """When the next scheduled job, or a rate's next start, is due (unix seconds)."""
        due: float | None = self.engine.database.read(
            lambda connection: connection.execute(NEXT_DUE).get
        )
        return due

    def promote(self) -> int:
        """Make ready what is due now, at most a batch; how many jobs came due."""
        now = self.engine.clock()

        def work(connection: Connection) -> int:
            keys = connection.execute(PROMOTE, (now,)).fetchall()
            admit(connection, now, [key[0] for key in keys], [key[1] for key in keys])
            wake_rates(connection, now)
            return len(keys)

        return self.engine.database.write(work, promise=False)


def _given_up(outcome: Outcome, crashes: int, on_crash: str) -> Outcome:
    """A crash that ends the job, with the reason why it is not tried again."""
    why = (
        "it may not run twice (on_crash='fail')"
        if on_crash == "fail"
        else f"that was crash {crashes} of {MAX_CRASHES}: the job may be what kills its worker"
    )
    error = outcome.error or Error("WorkerDied", "the worker process died")
    text = f"{error.message}; not tried again, for {why}"
    return msgspec.structs.replace(outcome, error=Error(error.type, text, error.traceback))


def _forget_files(connection: Connection, seq: int) -> list[str]:
    return [
        name
        for (name,) in connection.execute(
            "DELETE FROM files WHERE seq = ? RETURNING name", (seq,)
        ).fetchall()
    ]
