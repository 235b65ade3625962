"""The table of `make demo`: three routes that do the same work, measured then and there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask_offload.measure.probe import innocent, probe
from flask_offload.measure.samples import ProbeResult, percentile
from flask_offload.profiler.store import spot_rows

from .crash_test import Pattern, Survival, survive
from .errors import BenchError
from .testbed import Bench, Watch

REQUESTS: dict[Pattern, int] = {"sync": 5, "thread": 12, "background": 12}
"""How many are measured of each. With so few, p99 is the slowest of them."""

CLIENTS = 4
"""Visitors who keep signing up while the innocent page is measured."""

SECONDS = 2.5
"""How long the innocent page is measured beside each route; a probe starts every 100 ms."""

PACE = 1.5
"""Seconds between two sign-ups of one visitor, if the first was answered by then."""

MEMBERS: dict[Pattern, int] = {"sync": 1, "thread": 4, "background": 4}
"""Who is under way when the processes are killed."""

QUIET = 60.0
"""Seconds that the work of one measurement may go on after it."""

NOT_MOVED = """\
The {engine} engine runs each job inside of enqueue: /background waits as /sync does.
Start the lab without FLASK_OFFLOAD_ENGINE to see what moving the work does."""

FACTOR = 5.0
"""How much faster "much faster" has to be. On an idle machine it is about a hundred times."""


@dataclass(frozen=True)
class Row:
    """One route: itself, the innocent page meanwhile, and its work after a `kill -9`.

    work_ms: the median of the work itself, wherever it was done.
    """

    pattern: Pattern
    route: ProbeResult
    innocent: ProbeResult
    work_ms: float | None
    survival: Survival


@dataclass(frozen=True)
class Claim:
    """What the table is to show, and whether it did."""

    text: str
    held: bool


@dataclass(frozen=True)
class Table:
    """Everything that was measured. idle: the innocent page with nobody else there. spotted: what
    the spotter wrote into the log about /sync. engine: the name of the one that kept the jobs;
    moves: whether its jobs run elsewhere than in the request; durable: whether they survive."""

    idle: ProbeResult
    rows: tuple[Row, ...]
    spotted: str | None = None
    engine: str = "sqlite"
    moves: bool = True
    durable: bool = True

    def row(self, pattern: Pattern) -> Row:
        """The row of this route."""
        return next(row for row in self.rows if row.pattern == pattern)

    @property
    def held(self) -> bool:
        """Whether every claim held."""
        return all(claim.held for claim in claims(self))


def measure(bench: Bench, say: Callable[[str], None] = lambda _: None) -> Table:
    """Measure all three routes; takes less than a minute. say: is told what comes next.

    Raises BenchError if work that was accepted is not done in the end.
    """
    with bench.alone:
        home = f"{bench.club.origin}/"
        idle = innocent(home, None, seconds=1.0, interval=0.1)
        speeds = {pattern: _speed(bench, pattern, say) for pattern in REQUESTS}
        survivals = {
            pattern: survive(bench, pattern, members, say) for pattern, members in MEMBERS.items()
        }
    rows = tuple(Row(pattern, *speeds[pattern], survivals[pattern]) for pattern in REQUESTS)
    engine = bench.engine
    return Table(idle, rows, _spotted(bench), engine.name, engine.has_worker, engine.flags.durable)


def _spotted(bench: Bench) -> str | None:
    found = spot_rows(bench.club.evidence)
    return next((row.sentence for row in found if row.route == "GET /sync"), None)


def _speed(
    bench: Bench, pattern: Pattern, say: Callable[[str], None]
) -> tuple[ProbeResult, ProbeResult, float | None]:
    route, home = f"{bench.club.origin}/{pattern}", f"{bench.club.origin}/"
    watch = bench.watch()
    say(f"/{pattern}: {REQUESTS[pattern]} visitors, one after the other")
    alone = probe(route, n=REQUESTS[pattern])
    _until_quiet(bench, watch)
    work_ms = percentile(watch.durations("work"), 50)
    say(f"/{pattern}: {CLIENTS} visitors at once, and a stranger who only wants the home page")
    meanwhile = innocent(home, route, clients=CLIENTS, seconds=SECONDS, interval=0.1, pace=PACE)
    _until_quiet(bench, watch)
    return alone, meanwhile, work_ms


def _until_quiet(bench: Bench, watch: Watch) -> None:
    """What one measurement has set going must not disturb the next."""
    if not bench.until(watch.is_quiet, QUIET):
        raise BenchError


def claims(table: Table) -> list[Claim]:
    """What moving the work is said to do, each with the figures that say so here. An engine that
    does not move it, or keeps nothing, is not held to what it never said."""
    sync, thread, ours = (table.row(pattern) for pattern in REQUESTS)
    faster = [
        Claim(
            f"/background answers in {_ms(ours.route.p50_ms)} ms instead of"
            f" {_ms(sync.route.p50_ms)} ms: the mail and the pictures come later, and they do come",
            _is_much_faster(ours.route, sync.route),
        ),
        Claim(
            f"the innocent page comes in {_ms(ours.innocent.p50_ms)} ms instead of"
            f" {_ms(sync.innocent.p50_ms)} ms while {CLIENTS} others sign up",
            _is_much_faster(ours.innocent, sync.innocent),
        ),
    ]
    lost = [
        Claim(
            f"after kill -9 the threads lost {thread.survival.lost} of {thread.survival.answered}"
            " welcomes that had been promised",
            thread.survival.lost > 0,
        )
    ]
    kept = [
        Claim(
            f"after kill -9 Flask-Offload kept all {ours.survival.done} of {ours.survival.answered}"
            " that had been promised",
            ours.survival.lost == 0 and ours.survival.answered > 0,
        )
    ]
    return [*(faster if table.moves else []), *lost, *(kept if table.durable else [])]


def _is_much_faster(one: ProbeResult, other: ProbeResult) -> bool:
    if one.failed or other.failed or one.p50_ms is None or other.p50_ms is None:
        return False
    return one.p50_ms * FACTOR < other.p50_ms


def render(table: Table) -> str:
    """The table as text, with the claims below it."""
    lines = [
        f"{table.engine:12} {'the route itself':>20} {'the innocent page':>20}   after kill -9",
        f"{'':12} {'p50 ms':>10} {'p99 ms':>9} {'p50 ms':>10} {'p99 ms':>9}   in the middle",
        *(_line(row) for row in table.rows),
        f"{'(nobody)':12} {'':20} {_ms(table.idle.p50_ms):>10} {_ms(table.idle.p99_ms):>9}",
        "",
        *(f"{'held  ' if claim.held else 'FAILED'}  {claim.text}" for claim in claims(table)),
    ]
    if not table.moves:
        lines += ["", NOT_MOVED.format(engine=table.engine)]
    if table.spotted:
        lines += ["", "What the app's own log said of /sync:", f"  {table.spotted}"]
    return "\n".join(lines)


def _line(row: Row) -> str:
    figures = (row.route.p50_ms, row.route.p99_ms, row.innocent.p50_ms, row.innocent.p99_ms)
    p50, p99, page_p50, page_p99 = map(_ms, figures)
    return (
        f"{'/' + row.pattern:12} {p50:>10} {p99:>9} {page_p50:>10} {page_p99:>9}"
        f"   {_outcome(row.survival)}"
    )


def _outcome(survival: Survival) -> str:
    if survival.pattern == "sync" or survival.waited:
        died = survival.members - survival.answered
        return f"{died} of {survival.members} saw an error" if died else "nobody was hit"
    if survival.lost:
        return f"{survival.lost} of {survival.answered} lost"
    again = f", {survival.twice} twice" if survival.twice else ""
    return f"{survival.done} of {survival.answered} done{again}"


def _ms(value: float | None) -> str:
    """Whole milliseconds, with one decimal below ten."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
