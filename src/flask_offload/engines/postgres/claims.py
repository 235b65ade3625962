"""A worker's jobs in PostgreSQL: claim them, record how they ended, and let through what is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...jobs.attempt import Claim, Ending, Outcome, Report
from ..attempt_writes import Counted
from ..counters import Tally
from ..dialect import POSTGRES
from ..rows import DUE_STATE
from ..store import Exchange, Retention
from .completion import BatchCompletion
from .connection import AGAIN, PgConnection
from .limits import admit, note_starts, wake_rates
from .ready_jobs import ClaimOrder
from .sender import PostgresSender
from .session import Session

PROMOTE_BATCH = 1000

PROMOTE = f"""
UPDATE offload.jobs SET state = {DUE_STATE}
WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs WHERE state = 'scheduled' AND run_after <= %s
    ORDER BY run_after LIMIT {PROMOTE_BATCH} FOR UPDATE SKIP LOCKED
)) RETURNING concurrency_key, rate_key
"""

# A rate's moment further away than its window was written before the clock was set back.
NEXT_DUE = """
SELECT least((SELECT min(run_after) FROM offload.jobs WHERE state = 'scheduled'), (
    SELECT min(CASE WHEN wake_at > %(now)s + "window" THEN %(now)s ELSE wake_at END)
    FROM offload.limits WHERE wake_at IS NOT NULL
))
"""

CANCELLING = """
SELECT seq, attempt, cancel FROM offload.jobs
WHERE state = 'running' AND cancel > 0 AND worker = %s
"""

HELD_BY = "SELECT seq, attempt FROM offload.jobs WHERE state = 'running' AND worker = %s"

WAIT_FOR_DISK = "SET LOCAL synchronous_commit TO DEFAULT"


class PostgresClaims:
    """The job half of PostgresStore. Errors: the subclasses of EngineUnavailable, and then nothing
    was done. queues: the only queues it serves; None: all."""

    session: Session

    def __init__(
        self,
        engine: PostgresSender,
        worker_id: str,
        retention: Retention,
        queues: frozenset[str] | None = None,
    ) -> None:
        self.engine = engine
        self.worker_id = worker_id
        self._retention = retention
        self.ready: ClaimOrder = ClaimOrder(worker_id, queues)
        self._held: dict[int, int] = {}
        """The attempts that this worker has: number by the job's seq."""
        self._lost: dict[int, int] = {}
        """Those that were put back by others while it had no session."""
        self._due: tuple[float | None] | None = None
        self.tally: Tally = Tally(POSTGRES, worker_id)

    # --- claim and finish ---

    def exchange(self, outcomes: Sequence[Outcome], capacity: Mapping[str, int]) -> Exchange:
        """Write the outcomes down and claim as many jobs as each lane has capacity for, at once."""
        now = self.engine.clock()
        wanted = {lane: count for lane, count in capacity.items() if count > 0}
        counted: list[Counted] = []
        is_due = self.tally.is_due()

        def work(connection: PgConnection) -> tuple[Exchange, float | None]:
            with self.ready.tried():
                return both(connection)

        def both(connection: PgConnection) -> tuple[Exchange, float | None]:
            completion = self._completion(connection, now)
            refused = completion.finish(outcomes) if outcomes else []
            admit(connection, now, completion.freed.concurrency, completion.freed.rates)
            freed = completion.freed.concurrency | completion.freed.rates
            if freed - {None} or any(each.ending is not Ending.SUCCESSFUL for each in outcomes):
                self.ready.forget()  # they, or those they let through, may be ready now
            if any(each.ending is not Ending.SUCCESSFUL for each in outcomes):
                connection.notify(AGAIN)
            counted[:] = completion.counted
            if is_due:
                self.tally.write(connection, counted)
            claims = self._claim(connection, wanted, now) if wanted else []
            if not outcomes and any(claim.on_crash == "fail" for claim in claims):
                connection.script(WAIT_FOR_DISK)  # it must not run twice
            return Exchange(claims, refused), connection.value(NEXT_DUE, {"now": now})

        visit, due = self.session.write(work, promise=bool(outcomes))
        self.tally.committed(counted, written=is_due)
        self._due = (due,)
        for outcome in outcomes:
            self._forget(outcome)
        self._held.update((claim.seq, claim.attempt) for claim in visit.claims)
        return visit

    def _claim(
        self, connection: PgConnection, wanted: Mapping[str, int], now: float
    ) -> list[Claim]:
        rows = self.ready.claim(connection, wanted, now)
        note_starts(connection, now, [row[-1] for row in rows if row[-1] is not None])
        claims = [Claim(*row[:-1]) for row in rows]
        claims.sort(key=lambda claim: (-claim.priority, claim.seq))
        return claims

    def give_back(self, claims: Iterable[Claim], *, delay: float = 0.0) -> None:
        """Jobs that were claimed and never started become READY again, at no cost.

        delay: seconds before they may be claimed, for those that this worker can't run.
        """
        now = self.engine.clock()
        given = list(claims)

        def work(connection: PgConnection) -> None:
            completion = self._completion(connection, now)
            for claim in given:
                completion.unclaim(claim, delay=delay)
            admit(connection, now, completion.freed.concurrency, completion.freed.rates)
            connection.notify("")

        self.ready.forget()
        self.session.write(work, promise=False)
        for claim in given:
            self._forget(claim)

    def _forget(self, held: Claim | Outcome) -> None:
        for table in (self._held, self._lost):
            if table.get(held.seq) == held.attempt:
                del table[held.seq]

    # --- while they run ---

    def report(self, reports: Iterable[Report]) -> None:
        """Write down progress and cursors."""
        now = self.engine.clock()
        given = list(reports)

        def work(connection: PgConnection) -> None:
            completion = self._completion(connection, now)
            for report in given:
                completion.report(report)

        self.session.write(work, promise=False)

    def cancellations(self) -> list[tuple[int, int, bool]]:
        """(seq, attempt, by force) of this worker's jobs that have been asked to stop, and of those
        that are no longer its own."""
        rows = self.session.write(
            lambda connection: connection.execute(CANCELLING, (self.worker_id,)).fetchall(),
            promise=False,
        )
        asked = [(seq, attempt, cancel == 2) for seq, attempt, cancel in rows]
        return [*asked, *((seq, attempt, True) for seq, attempt in self._lost.items())]

    def lapsed(self) -> list[tuple[int, int]]:
        """(seq, attempt) of the jobs that others may put back, as this worker has had no session
        for too long."""
        return list(self._held.items()) if self.session.is_lapsed() else []

    def resume_claims(self, connection: PgConnection) -> None:
        """In a new session: see which jobs are still this worker's. Those that it never received,
        as the answer to its claim was lost, are given back."""
        rows = connection.execute(HELD_BY, (self.worker_id,)).fetchall()
        still: dict[int, int] = dict(rows)
        self.ready.forget()
        self._lost = {
            seq: attempt for seq, attempt in self._held.items() if still.get(seq) != attempt
        }
        now = self.engine.clock()
        completion = self._completion(connection, now)
        for seq, attempt in still.items():
            if self._held.get(seq) != attempt:
                completion.unclaim(Outcome(seq, attempt, Ending.CRASHED, now, now))
                connection.notify(AGAIN)
        admit(connection, now, completion.freed.concurrency, completion.freed.rates)

    def _completion(self, connection: PgConnection, now: float) -> BatchCompletion:
        return BatchCompletion(
            connection, self.worker_id, self._retention, now, insert=self.engine.insert
        )

    # --- time ---

    def next_due(self) -> float | None:
        """When the next scheduled job, or a rate's next start, is due (unix seconds)."""
        if self._due is not None:  # the last exchange has just looked
            (due,), self._due = self._due, None
            return due
        now = self.engine.clock()
        found: float | None = self.session.write(
            lambda connection: connection.value(NEXT_DUE, {"now": now}), promise=False
        )
        return found

    def promote(self) -> int:
        """Make ready what is due now, at most a batch; how many jobs came due."""
        now = self.engine.clock()
        self._due = None
        self.ready.forget()

        def work(connection: PgConnection) -> int:
            keys = connection.execute(PROMOTE, (now,)).fetchall()
            connection.notify(AGAIN)
            admit(connection, now, [key[0] for key in keys], [key[1] for key in keys])
            wake_rates(connection, now)
            return len(keys)

        return self.session.write(work, promise=False)
