"""A worker's jobs in SQLite: claim them, record how they ended, and let through what is due."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from ...jobs.attempt import Claim, Outcome, Report
from ..attempt_writes import Counted
from ..counters import Tally
from ..dialect import SQLITE
from ..rows import DUE_STATE, ID
from ..store import Exchange, Retention
from .completion import Completion
from .connection import Connection
from .limits import admit, note_starts, wake_rates
from .sender import SqliteSender

PROMOTE_BATCH = 1000

PICK = """
SELECT seq, priority FROM jobs WHERE state = 'ready' AND lane = ? AND queue_name = ?
ORDER BY priority DESC, seq LIMIT ?
"""

CLAIM = f"""
UPDATE jobs SET state = 'running', worker = ?, attempt = attempt + 1, started_at = ?, done = NULL,
    total = NULL, message = NULL
WHERE seq IN (SELECT value FROM json_each(?))
RETURNING seq, {ID}, task, queue_name, lane, priority, attempt, failures, crashes, on_crash, owner,
    origin, enqueued_at, started_at,
    coalesce(args, (SELECT args FROM payloads WHERE payloads.seq = jobs.seq)), context, cursor,
    -1, options, rate_key
"""

PROMOTE = f"""
UPDATE jobs SET state = {DUE_STATE}
WHERE seq IN (
    SELECT seq FROM jobs WHERE state = 'scheduled' AND run_after <= ?
    ORDER BY run_after LIMIT {PROMOTE_BATCH}
) RETURNING concurrency_key, rate_key
"""

# A rate's moment further away than its window was written before the clock was set back.
NEXT_DUE = """
SELECT min(at) FROM (
    SELECT min(run_after) AS at FROM jobs WHERE state = 'scheduled'
    UNION ALL
    SELECT min(iif(wake_at > ?1 + window, ?1, wake_at)) FROM limits WHERE wake_at IS NOT NULL
)
"""


class SqliteClaims:
    """The job half of SqliteStore. Errors: the subclasses of EngineUnavailable, and then nothing
    was done. queues: the only queues it serves; None: all."""

    def __init__(
        self,
        engine: SqliteSender,
        worker_id: str,
        retention: Retention,
        queues: frozenset[str] | None = None,
    ) -> None:
        self.engine = engine
        self.worker_id = worker_id
        self._retention = retention
        self._queues = queues
        self.tally: Tally = Tally(SQLITE, worker_id)

    # --- claim and finish ---

    def exchange(self, outcomes: Sequence[Outcome], capacity: Mapping[str, int]) -> Exchange:
        """Write the outcomes down and claim as many jobs as each lane has capacity for, at once."""
        try:
            return self._exchange(outcomes, capacity, promise=bool(outcomes))
        except _MustBeDurable:
            return self._exchange(outcomes, capacity, promise=True)

    def _exchange(
        self, outcomes: Sequence[Outcome], capacity: Mapping[str, int], *, promise: bool
    ) -> Exchange:
        now = self.engine.clock()
        counted: list[Counted] = []
        is_due = self.tally.is_due()

        def work(connection: Connection) -> Exchange:
            completion = self._completion(connection, now)
            refused = completion.finish(outcomes)
            admit(connection, now, completion.freed.concurrency, completion.freed.rates)
            counted[:] = completion.counted
            if is_due:
                self.tally.write(connection, counted)
            claims = self._claim(connection, capacity, now)
            if not promise and any(claim.on_crash == "fail" for claim in claims):
                raise _MustBeDurable
            return Exchange(claims, refused, completion.stray_files)

        exchanged = self.engine.database.write(work, promise=promise)
        self.tally.committed(counted, written=is_due)
        return exchanged

    def _claim(
        self, connection: Connection, capacity: Mapping[str, int], now: float
    ) -> list[Claim]:
        names = self._served_queues(connection)
        picked: list[int] = []
        for lane, count in capacity.items():
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

    def give_back(self, claims: Iterable[Claim], *, delay: float = 0.0) -> None:
        """Jobs that were claimed and never started become READY again, at no cost.

        delay: seconds before they may be claimed, for those that this worker can't run.
        """
        now = self.engine.clock()

        def work(connection: Connection) -> None:
            completion = self._completion(connection, now)
            for claim in claims:
                completion.unclaim(claim, delay=delay)
            admit(connection, now, completion.freed.concurrency, completion.freed.rates)

        self.engine.database.write(work, promise=False)

    # --- while they run ---

    def report(self, reports: Iterable[Report]) -> None:
        """Record progress and cursors."""
        now = self.engine.clock()

        def work(connection: Connection) -> None:
            completion = self._completion(connection, now)
            for report in reports:
                completion.report(report)

        self.engine.database.write(work, promise=False)

    def cancellations(self) -> list[tuple[int, int, bool]]:
        """(seq, attempt, by force) of this worker's jobs that have been asked to stop."""

        def work(connection: Connection) -> list[tuple[int, int, bool]]:
            rows = connection.execute(
                "SELECT seq, attempt, cancel FROM jobs"
                " WHERE state = 'running' AND cancel > 0 AND worker = ?",
                (self.worker_id,),
            ).fetchall()
            return [(seq, attempt, cancel == 2) for seq, attempt, cancel in rows]

        return self.engine.database.read(work)

    def _completion(self, connection: Connection, now: float) -> Completion:
        return Completion(
            connection, self.worker_id, self._retention, now, insert=self.engine.insert
        )

    # --- time ---

    def next_due(self) -> float | None:
        """When the next scheduled job, or a rate's next start, is due (unix seconds)."""
        now = self.engine.clock()
        due: float | None = self.engine.database.read(
            lambda connection: connection.execute(NEXT_DUE, (now,)).get
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


class _MustBeDurable(Exception):
    """Among the claims is a job that must not run twice, so its claim must not be lost by a power
    cut: do it again, and wait for the disk."""
