"""Which jobs a worker claims next.

A look at the index of ready jobs walks over the entries of all that were claimed since the oldest
open transaction began. So where there is a backlog, one look finds the jobs of many claims, and
those that follow only lock them. What becomes ready later and comes before them is known from
notifications. What took its number before them and was committed after they were seen is found by
the next look, LOOK_EVERY later at most.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from ..rows import ID
from .connection import PgConnection

SLACK: Final = 10
"""Candidates beyond twice what is wanted, so that workers which claim at the same moment, and pass
over each other's rows, find enough."""

MOST: Final = 1000
LOOK_EVERY: Final = 0.5
"""Seconds."""

# Rows are looked at again when they are locked: another worker may have claimed them since. That
# condition is written so that no index fits it: each row is found by its number, whatever the
# statistics say.
CLAIM = f"""
WITH wanted AS MATERIALIZED (
    SELECT lane, count, look
    FROM unnest(%(lanes)s::text[], %(counts)s::int[], %(looks)s::int[]) AS w (lane, count, look)
), candidates AS MATERIALIZED (
    SELECT lane, priority, seq, true AS is_known
    FROM unnest(%(known_lanes)s::text[], %(known_priorities)s::int[], %(known)s::bigint[])
        AS k (lane, priority, seq)
    UNION ALL
    SELECT wanted.lane, ready.priority, ready.seq, false
    FROM wanted CROSS JOIN LATERAL (
        SELECT head.seq, head.priority
        FROM offload.queues
        CROSS JOIN LATERAL (
            SELECT seq, priority FROM offload.jobs
            WHERE state = 'ready' AND lane = wanted.lane AND queue_name = queues.name
            ORDER BY priority DESC, seq LIMIT wanted.look
        ) AS head
        WHERE queues.paused_at IS NULL AND wanted.look > 0
            AND (%(queues)s::text[] IS NULL OR queues.name = ANY(%(queues)s::text[]))
        ORDER BY head.priority DESC, head.seq LIMIT wanted.look
    ) AS ready
), locked AS MATERIALIZED (
    SELECT mine.seq FROM wanted CROSS JOIN LATERAL (
        SELECT jobs.seq FROM (
            SELECT seq, priority FROM candidates WHERE lane = wanted.lane
            ORDER BY priority DESC, seq LIMIT wanted.count * 2 + {SLACK}
        ) AS first JOIN offload.jobs USING (seq)
        WHERE jobs.state || jobs.lane = 'ready' || wanted.lane AND NOT EXISTS (
            SELECT FROM offload.queues WHERE name = jobs.queue_name AND paused_at IS NOT NULL
        )
        ORDER BY first.priority DESC, first.seq LIMIT wanted.count
        FOR UPDATE OF jobs SKIP LOCKED
    ) AS mine
), claimed AS (
    UPDATE offload.jobs AS j SET state = 'running', worker = %(worker)s, attempt = attempt + 1,
        started_at = %(now)s, done = NULL, total = NULL, message = NULL
    FROM locked WHERE j.seq = locked.seq
    RETURNING j.seq, {ID}, task, queue_name, j.lane, j.priority, attempt, failures, crashes,
        on_crash, owner, origin, enqueued_at, started_at, args, context, cursor, -1, options,
        rate_key
)
SELECT candidates.lane, candidates.priority, candidates.seq, claimed.*
FROM candidates LEFT JOIN claimed ON claimed.seq = candidates.seq
WHERE claimed.seq IS NOT NULL OR NOT is_known
ORDER BY candidates.priority DESC, candidates.seq
"""

Row = tuple[Any, ...]


@dataclass
class SeenJobs:
    """What is known of the ready jobs of a lane."""

    known: list[tuple[int, int]] = field(default_factory=list)
    """(priority, seq) of the first of them, in the order in which they are claimed."""
    look_at: float = 0.0
    """Monotonic seconds; then they are no longer taken for the first."""
    window: int = 0
    """How many the next look is to find."""


class ClaimOrder:
    """Of one worker. queues: the only queues it serves; None: all."""

    def __init__(self, worker_id: str, queues: frozenset[str] | None) -> None:
        self._worker_id = worker_id
        self.queues = None if queues is None else sorted(queues)
        self._lanes: dict[str, SeenJobs] = {}

    @contextmanager
    def tried(self) -> Iterator[None]:
        """Around the work of a transaction that claims: what is undone can be claimed again."""
        try:
            yield
        except BaseException:
            self.forget()
            raise

    def claim(self, connection: PgConnection, wanted: Mapping[str, int], now: float) -> list[Row]:
        """Claim as many jobs of each lane as are wanted, highest priority and then oldest first:
        the columns that CLAIM returns of each."""
        lanes = {name: self._lanes.setdefault(name, SeenJobs()) for name in wanted}
        for lane in lanes.values():
            if time.monotonic() >= lane.look_at:
                lane.known.clear()
        had_known = [name for name, lane in lanes.items() if lane.known]
        rows = self._claim(connection, wanted, now)
        claimed = Counter(row[4] for row in rows)
        left = {name: wanted[name] - claimed[name] for name in had_known}
        left = {name: count for name, count in left.items() if count > 0}
        if left:  # others have claimed them
            for name in left:
                lanes[name].known.clear()
            rows += self._claim(connection, left, now)
        return rows

    def _claim(self, connection: PgConnection, wanted: Mapping[str, int], now: float) -> list[Row]:
        most = {name: 2 * count + SLACK for name, count in wanted.items()}
        first = [(name, *each) for name in wanted for each in self._lanes[name].known[: most[name]]]
        looks = {
            name: 0 if self._lanes[name].known else max(least, self._lanes[name].window)
            for name, least in most.items()
        }
        rows = connection.execute(
            CLAIM,
            {
                "lanes": list(wanted),
                "counts": list(wanted.values()),
                "looks": list(looks.values()),
                "known_lanes": [name for name, _, _ in first],
                "known_priorities": [priority for _, priority, _ in first],
                "known": [seq for _, _, seq in first],
                "queues": self.queues,
                "worker": self._worker_id,
                "now": now,
            },
        ).fetchall()
        for name, look in looks.items():
            lane, mine = self._lanes[name], [row for row in rows if row[0] == name]
            if look:
                lane.known = [(row[1], row[2]) for row in mine]
                lane.look_at = time.monotonic() + LOOK_EVERY
                lane.window = min(MOST, 4 * look) if len(mine) == look else 0
            last = next((row[2] for row in reversed(mine) if row[3] is not None), None)
            tried = [seq for _, seq in lane.known[: most[name]]]
            gone = len(tried) if last is None else tried.index(last) + 1
            del lane.known[:gone]
        return [row[3:] for row in rows if row[3] is not None]

    def forget(self) -> None:
        """Jobs may have become ready that come before those which are known."""
        self._lanes.clear()

    def note(self, payload: str) -> None:
        """A notification has come. payload: the highest priority of new jobs, which come after all
        others of it; anything else if other jobs may have become ready."""
        try:
            priority = int(payload)
        except ValueError:
            self.forget()
            return
        for lane in self._lanes.values():
            if lane.known and lane.known[-1][0] < priority:
                lane.known = [each for each in lane.known if each[0] >= priority]
                lane.window = 0
