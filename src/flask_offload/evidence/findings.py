"""What follows from the samples: pure functions, from a measurement to sentences with numbers.

A difference is claimed only where the middle 80 % of the two sets of values do not overlap and the
medians differ by more than the figure's slack. What did not change is said as plainly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .figures import FIGURES, Figure, Summary, Threshold, quantity
from .pipeline import pipeline
from .samples import Measurement, Variant
from .traps import Trap, problems, traps

LAB = (
    "measured on one machine, without a real network; the limits are meant for the "
    "75th percentile of real visitors"
)


class Kind(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    SAME = "unchanged"
    QUEUE = "queue"
    BOTTLENECK = "bottleneck"
    TRAP = "trap"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence and what it stands on.

    number, unit: the figure that the sentence is about. threshold, source: the limit it was held
    against and who set it. caveat: what it does not show.
    """

    kind: Kind
    subject: str
    sentence: str
    number: float | None = None
    unit: str = ""
    threshold: str | None = None
    source: str | None = None
    caveat: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of two variants. change: -1 less, 0 no difference that can be told, +1 more."""

    figure: Figure
    before: Summary
    after: Summary

    @property
    def change(self) -> int:
        difference = self.after.median - self.before.median
        apart = self.after.p90 < self.before.p10 or self.before.p90 < self.after.p10
        if not apart or abs(difference) <= self.figure.slack:
            return 0
        return 1 if difference > 0 else -1


def compare(figure: Figure, before: Variant, after: Variant) -> Comparison | None:
    """None unless both have the figure."""
    one, other = figure.summary(before), figure.summary(after)
    return Comparison(figure, one, other) if one and other else None


def findings(measurement: Measurement) -> list[Finding]:
    """Everything worth saying, the most important first."""
    variants = measurement.variants
    found: list[Finding] = []
    for after in variants[1:]:
        found += _changes(variants[0], after)
    for variant in variants:
        found += _queue(measurement, variant)
    for variant in variants:
        found += _bottleneck(variant)
    for after in variants[1:]:
        found += _costs(variants[0], after)
    for variant in variants:
        found += [_of_trap(Kind.TRAP, variant, trap) for trap in traps(variant)]
    for variant in variants:
        found += [_of_trap(Kind.PROBLEM, variant, trap) for trap in problems(variant)]
    return found


TIMES = ("ttfb", "response", "fcp", "lcp")
HTTP_TIMES = ("http-ttfb", "http-response")
COSTS = ("dom-operations", "reflows", "style-recalcs", "paint", "cls")


def _changes(before: Variant, after: Variant) -> Iterator[Finding]:
    """The times that moving work can change."""
    for key in TIMES if before.loads and after.loads else HTTP_TIMES:
        compared = compare(FIGURES[key], before, after)
        if compared is not None:
            yield _change(compared, before, after)


def _change(compared: Comparison, before: Variant, after: Variant) -> Finding:
    figure = compared.figure
    was, now = figure.text(compared.before.median), figure.text(compared.after.median)
    name = figure.title
    if compared.change == 0:
        sentence = f"{name}: no difference between {before.label} ({was}) and {after.label} ({now})"
        kind = Kind.SAME
    else:
        less = compared.change < 0
        kind = Kind.FASTER if less else Kind.SLOWER
        sentence = f"{name}: {now} in {after.label}, {was} in {before.label}"
    return Finding(
        kind,
        after.label,
        sentence,
        number=compared.after.median,
        unit=figure.unit,
        threshold=limit_text(figure.threshold, figure.unit),
        source=figure.threshold.source if figure.threshold else None,
        caveat=_time_caveat(figure, before),
    )


def _time_caveat(figure: Figure, before: Variant) -> str | None:
    """A wait that is still within the limit must not be sold as broken."""
    if figure.threshold is None:
        return None
    value = figure.value(before)
    if value is not None and figure.threshold.rate(value) == "good":
        return f"{before.label} is within this limit too, so no limit is broken here; {LAB}"
    return LAB


def _costs(before: Variant, after: Variant) -> Iterator[Finding]:
    """What the browser does with the page; moving work does not change it, showing results can."""
    for key in COSTS:
        compared = compare(FIGURES[key], before, after)
        if compared is None:
            continue
        figure = compared.figure
        was, now = figure.text(compared.before.median), figure.text(compared.after.median)
        if compared.change == 0:
            kind = Kind.SAME
            sentence = f"{figure.title}: {was} in {before.label}, {now} in {after.label}, no change"
        else:
            kind = Kind.SLOWER if compared.change > 0 else Kind.FASTER
            sentence = f"{figure.title}: {now} in {after.label}, {was} in {before.label}"
        yield Finding(
            kind,
            after.label,
            sentence,
            number=compared.after.median,
            unit=figure.unit,
            threshold=limit_text(figure.threshold, figure.unit),
            source=figure.threshold.source if figure.threshold else None,
            caveat=None if figure.stable else "varies by 100 % between loads: never a limit in CI",
        )


def _queue(measurement: Measurement, variant: Variant) -> Iterator[Finding]:
    """The innocent page: what others wait, and that the app itself can't see it."""
    probed, idle = variant.innocent, measurement.idle
    if probed is None or idle is None or probed.p50_ms is None or idle.p50_ms is None:
        return
    slower = probed.p50_ms > idle.p50_ms + FIGURES["innocent"].slack
    wait, base = quantity(probed.p50_ms, "ms"), quantity(idle.p50_ms, "ms")
    sentence = (
        f"with {visitors(probed.clients)} on {variant.label}, somebody else's page takes {wait} "
        f"(p50; {base} when idle)"
    )
    inside = probed.server_p50_ms
    if slower and inside is not None and probed.ttfb_p50_ms is not None:
        queue = quantity(max(probed.ttfb_p50_ms - inside, 0), "ms")
        sentence += (
            f"; the app reports {quantity(inside, 'ms')} for it, because it can't see "
            f"the {queue} in the queue"
        )
    yield Finding(
        Kind.QUEUE if slower else Kind.SAME,
        variant.label,
        sentence,
        number=probed.p50_ms,
        unit="ms",
        caveat="depends on the number of server workers and threads: measure your own set-up",
    )


def _bottleneck(variant: Variant) -> Iterator[Finding]:
    whole = pipeline(variant)
    if whole is None or not whole.total_ms:
        return
    stage = whole.bottleneck
    caveat = None
    if stage.kind == "waiting":
        caveat = "the app sends no Server-Timing, so its own time and the queue can't be told apart"
    yield Finding(
        Kind.BOTTLENECK,
        variant.label,
        f"{variant.label}: most of the wait is {stage.title}, {quantity(stage.ms, 'ms')} of "
        f"{quantity(whole.total_ms, 'ms')} ({whole.share(stage):.0%})",
        number=stage.ms,
        unit="ms",
        caveat=caveat,
    )


def _of_trap(kind: Kind, variant: Variant, trap: Trap) -> Finding:
    return Finding(
        kind,
        variant.label,
        f"{variant.label}: {trap.sentence}",
        number=trap.number,
        unit=trap.unit,
        caveat=trap.remedy,
    )


def headline(measurement: Measurement) -> str:
    """The one or two sentences on top."""
    first, last = measurement.variants[0], measurement.variants[-1]
    return " ".join(filter(None, [_answers(first, last), _others(measurement, first, last)]))


def _answers(before: Variant, after: Variant) -> str:
    figure = FIGURES["ttfb" if before.loads and after.loads else "http-ttfb"]
    compared = compare(figure, before, after)
    if compared is None:
        return f"{after.label} did not answer."
    was, now = figure.text(compared.before.median), figure.text(compared.after.median)
    if before is after:
        return f"{after.label} answers after {now}."
    if compared.change == 0:
        return f"{after.label} and {before.label} answer equally soon ({now} and {was})."
    if compared.change > 0:
        return f"{after.label} answers only after {now}, {before.label} after {was}."
    return f"{after.label} answers after {now} instead of {was}."


def _others(measurement: Measurement, first: Variant, last: Variant) -> str | None:
    """What somebody else waits: compared with the first variant, or with an idle server."""
    other = measurement.idle if first is last else first.innocent
    if last.innocent is None or other is None:
        return None
    now, was = last.innocent.p50_ms, other.p50_ms
    if now is None or was is None:
        return None
    takes = f"With {visitors(last.innocent.clients)} on it, somebody else's page takes"
    if abs(now - was) <= FIGURES["innocent"].slack:
        return f"{takes} {quantity(now, 'ms')}, no longer than otherwise ({quantity(was, 'ms')})."
    return f"{takes} {quantity(now, 'ms')} instead of {quantity(was, 'ms')}."


def unchanged(measurement: Measurement) -> str | None:
    """What did not change between the first and the last variant, in one sentence."""
    first, last = measurement.variants[0], measurement.variants[-1]
    if first is last:
        return None
    same = [
        _both(each)
        for key in COSTS
        if (each := compare(FIGURES[key], first, last)) is not None and each.change == 0
    ]
    return f"Unchanged: {', '.join(same)}." if same else None


def _both(compared: Comparison) -> str:
    """A count speaks for itself; other figures need their name, and vary a little."""
    was, now = (compared.figure.text(each.median) for each in (compared.before, compared.after))
    if compared.figure.unit not in ("ms", "score"):
        return now if now == was else f"{now} (before: {was})"
    name = compared.figure.title.partition(" (")[0]
    return f"{name} {now}" if now == was else f"{name} {now} (before: {was}; that much is noise)"


def limit_text(threshold: Threshold | None, unit: str) -> str | None:
    """The limits of a figure in words."""
    if threshold is None:
        return None
    good = f"good up to {quantity(threshold.good, unit)}"
    return f"{good}, poor above {quantity(threshold.poor, unit)}"


def visitors(count: int) -> str:
    return f"{count} visitor" if count == 1 else f"{count} visitors"
