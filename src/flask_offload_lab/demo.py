"""The table of `make demo`: three routes that do the same work, measured then and there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_offload.measure import ProbeResult, percentile, probe, probe_bystander
from flask_offload.profiler import spot_rows

from .crash_test import CrashTestResult, Pattern, run_crash_test
from .errors import WorkNotDone
from .journal import JournalReader
from .testbed import LabTestbed

REQUESTS: dict[Pattern, int] = {"sync": 5, "thread": 12, "background": 12}
"""How many are measured of each. With so few, p99 is the slowest of them."""

CLIENTS = 4
"""Visitors who keep signing up while the bystander's page is measured."""

SECONDS = 2.5
"""How long the bystander's page is measured beside each route; a probe starts every 100 ms."""

PACE = 1.5
"""Seconds between two sign-ups of one visitor, if the first was answered by then."""

MEMBERS: dict[Pattern, int] = {"sync": 1, "thread": 4, "background": 4}
"""How many members' work runs when the processes are killed."""

QUIET_TIMEOUT = 60.0
"""Seconds that the work of one measurement may go on after it."""

NOT_MOVED = """\
The {engine} engine runs each job inside of enqueue: /background waits as /sync does.
Start the lab without FLASK_OFFLOAD_ENGINE to see what moving the work does."""

FACTOR = 5.0
"""How much faster "much faster" has to be. On an idle machine it is about a hundred times."""


@dataclass(frozen=True)
class RouteResult:
    """One route: itself, the bystander's page meanwhile, and its work after a `kill -9`.

    work_ms: the median of the work itself, in whichever process it ran.
    """

    pattern: Pattern
    route: ProbeResult
    bystander: ProbeResult
    work_ms: float | None
    crash_test: CrashTestResult


@dataclass(frozen=True)
class DemoClaim:
    """What the table is expected to show, and whether it did."""

    text: str
    held: bool


@dataclass(frozen=True)
class DemoTable:
    """Everything that was measured. idle: the bystander's page on an idle server. finding: the
    profiler's sentence about /sync. engine: the name of the one that kept the jobs; moves: whether
    its jobs run elsewhere than in the request; durable: whether they survive."""

    idle: ProbeResult
    rows: tuple[RouteResult, ...]
    finding: str | None = None
    engine: str = "sqlite"
    moves: bool = True
    durable: bool = True

    def row(self, pattern: Pattern) -> RouteResult:
        """The row of this route."""
        return next(row for row in self.rows if row.pattern == pattern)

    @property
    def held(self) -> bool:
        """Whether every claim held."""
        return all(claim.held for claim in claims(self))

    def document(self) -> dict[str, Any]:
        """The table for programs, as JSON types."""
        rows = [
            {
                "route": f"/{row.pattern}",
                "p50_ms": row.route.p50_ms,
                "p99_ms": row.route.p99_ms,
                "bystander_p50_ms": row.bystander.p50_ms,
                "bystander_p99_ms": row.bystander.p99_ms,
                "killed": {
                    "answered": row.crash_test.answered,
                    "done": row.crash_test.done,
                    "lost": row.crash_test.lost,
                },
            }
            for row in self.rows
        ]
        found = [{"claim": claim.text, "held": claim.held} for claim in claims(self)]
        return {"engine": self.engine, "rows": rows, "claims": found}


def measure(testbed: LabTestbed, report: Callable[[str], None] = lambda _: None) -> DemoTable:
    """Measure all three routes; takes less than a minute. report: called with what comes next.

    Raises WorkNotDone if work that was accepted is not done in time.
    """
    with testbed.exclusive:
        home = f"{testbed.sample_app.origin}/"
        idle = probe_bystander(home, None, seconds=1.0, interval=0.1)
        speeds = {pattern: _speed(testbed, pattern, report) for pattern in REQUESTS}
        crash_tests = {
            pattern: run_crash_test(testbed, pattern, members, report)
            for pattern, members in MEMBERS.items()
        }
    rows = tuple(
        RouteResult(pattern, *speeds[pattern], crash_tests[pattern]) for pattern in REQUESTS
    )
    engine = testbed.engine
    finding = _finding(testbed)
    return DemoTable(idle, rows, finding, engine.name, engine.has_worker, engine.flags.durable)


def _finding(testbed: LabTestbed) -> str | None:
    found = spot_rows(testbed.sample_app.evidence)
    return next((row.sentence for row in found if row.route == "GET /sync"), None)


def _speed(
    testbed: LabTestbed, pattern: Pattern, report: Callable[[str], None]
) -> tuple[ProbeResult, ProbeResult, float | None]:
    origin = testbed.sample_app.origin
    route, home = f"{origin}/{pattern}", f"{origin}/"
    journal = testbed.journal()
    report(f"/{pattern}: {REQUESTS[pattern]} visitors, one after the other")
    alone = probe(route, n=REQUESTS[pattern])
    _wait_until_quiet(testbed, journal)
    work_ms = percentile(journal.durations("work"), 50)
    report(f"/{pattern}: {CLIENTS} visitors at once, and a bystander on the home page")
    meanwhile = probe_bystander(
        home, route, clients=CLIENTS, seconds=SECONDS, interval=0.1, pace=PACE
    )
    _wait_until_quiet(testbed, journal)
    return alone, meanwhile, work_ms


def _wait_until_quiet(testbed: LabTestbed, journal: JournalReader) -> None:
    """The work of one measurement must not disturb the next."""
    if not testbed.until(journal.is_quiet, QUIET_TIMEOUT):
        raise WorkNotDone


def claims(table: DemoTable) -> list[DemoClaim]:
    """What moving the work is claimed to do, each with the figures of this run. The claims that an
    engine's flags exclude are left out."""
    sync, thread, background = (table.row(pattern) for pattern in REQUESTS)
    lost, kept = thread.crash_test, background.crash_test
    faster = [
        DemoClaim(
            f"/background answers in {_ms(background.route.p50_ms)} ms instead of"
            f" {_ms(sync.route.p50_ms)} ms: the mail and the pictures are made after the answer",
            _is_much_faster(background.route, sync.route),
        ),
        DemoClaim(
            f"the bystander's page takes {_ms(background.bystander.p50_ms)} ms instead of"
            f" {_ms(sync.bystander.p50_ms)} ms while {CLIENTS} others sign up",
            _is_much_faster(background.bystander, sync.bystander),
        ),
    ]
    threads = [
        DemoClaim(
            f"after kill -9 the threads had lost {lost.lost} of {lost.answered} welcome mails that"
            " had been promised",
            lost.lost > 0,
        )
    ]
    jobs = [
        DemoClaim(
            f"after kill -9 Flask-Offload sent all {kept.done} of {kept.answered} that had been"
            " promised",
            kept.lost == 0 and kept.answered > 0,
        )
    ]
    return [*(faster if table.moves else []), *threads, *(jobs if table.durable else [])]


def _is_much_faster(one: ProbeResult, other: ProbeResult) -> bool:
    if one.failed or other.failed or one.p50_ms is None or other.p50_ms is None:
        return False
    return one.p50_ms * FACTOR < other.p50_ms


def render(table: DemoTable) -> str:
    """The table as text, with the claims below it."""
    lines = [
        f"{table.engine:12} {'the route itself':>20} {'a bystander':>20}   after kill -9",
        f"{'':12} {'p50 ms':>10} {'p99 ms':>9} {'p50 ms':>10} {'p99 ms':>9}   in the middle",
        *(_line(row) for row in table.rows),
        f"{'(idle)':12} {'':20} {_ms(table.idle.p50_ms):>10} {_ms(table.idle.p99_ms):>9}",
        "",
        *(f"{'held  ' if claim.held else 'FAILED'}  {claim.text}" for claim in claims(table)),
    ]
    if not table.moves:
        lines += ["", NOT_MOVED.format(engine=table.engine)]
    if table.finding:
        lines += ["", "What the profiler found in /sync:", f"  {table.finding}"]
    return "\n".join(lines)


def _line(row: RouteResult) -> str:
    figures = (row.route.p50_ms, row.route.p99_ms, row.bystander.p50_ms, row.bystander.p99_ms)
    p50, p99, page_p50, page_p99 = map(_ms, figures)
    return (
        f"{'/' + row.pattern:12} {p50:>10} {p99:>9} {page_p50:>10} {page_p99:>9}"
        f"   {_outcome(row.crash_test)}"
    )


def _outcome(result: CrashTestResult) -> str:
    if result.pattern == "sync" or result.waited:
        failed = result.members - result.answered
        return f"{failed} of {result.members} saw an error" if failed else "all were answered"
    if result.lost:
        return f"{result.lost} of {result.answered} lost"
    twice = f", {result.twice} twice" if result.twice else ""
    dropped = f" ({result.dropped} repeated, dropped)" if result.dropped else ""
    return f"{result.done} of {result.answered} done{twice}{dropped}"


def _ms(value: float | None) -> str:
    """Whole milliseconds, with one decimal below ten."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"
