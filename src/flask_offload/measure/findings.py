"""Findings: pure functions, from a measurement to sentences with numbers.

A difference is claimed only where the middle 80% of the two sets of values do not overlap and the
medians differ by more than the figure's slack. What did not change is reported as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .caveats import HIDDEN_MS, LATE_MS, Caveat, caveats, problems
from .figures import FIGURES, Figure, Rating, Summary, Threshold, quantity
from .pipeline import pipeline
from .samples import Measurement, Setup, Variant
from .verdict import verdict

LAB = (
    "measured on one machine, without a real network; the limits are meant for the "
    "75th percentile of real visitors"
)


SIMILAR = 1.5
"""Medians further apart than this factor are not called unchanged, however small they are."""


class Kind(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    LESS = "less"
    MORE = "more"
    SAME = "unchanged"
    UNSURE = "can't tell"
    QUEUE = "queue"
    BOTTLENECK = "bottleneck"
    CAVEAT = "caveat"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class MeasurementFinding:
    """One sentence and the figures behind it.

    number, unit: the figure that the sentence is about. threshold, source: the limit and its
    source. caveat: what it does not show.
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

    @property
    def same(self) -> bool:
        """Whether the medians are as good as equal."""
        was, now = self.before.median, self.after.median
        near = abs(was - now) <= self.figure.slack and max(was, now) <= SIMILAR * min(was, now)
        return near or len(set(self.texts)) == 1

    @property
    def texts(self) -> tuple[str, str]:
        """Both medians with their unit, before and after."""
        return self.figure.text(self.before.median), self.figure.text(self.after.median)


def compare(figure: Figure, before: Variant, after: Variant) -> Comparison | None:
    """None unless both have the figure."""
    one, other = figure.summary(before), figure.summary(after)
    return Comparison(figure, one, other) if one and other else None


def findings(measurement: Measurement) -> list[MeasurementFinding]:
    """All findings, the most important first."""
    variants = measurement.variants
    found = list(_busy(measurement.setup))
    for after in variants[1:]:
        times = TIMES if variants[0].loads and after.loads else HTTP_TIMES
        found += _changes(times, variants[0], after)
    for variant in variants:
        found += _queue(variant)
    for variant in variants:
        if has_bottleneck(variant, variants):
            found += _bottleneck(variant)
    for after in variants[1:]:
        found += _changes(COSTS, variants[0], after)
    for variant in variants:
        found += [_of_caveat(Kind.CAVEAT, variant, caveat) for caveat in caveats(variant)]
    for variant in variants:
        found += [_of_caveat(Kind.PROBLEM, variant, caveat) for caveat in problems(variant)]
    return found


TIMES = ("ttfb", "response", "fcp", "lcp")
HTTP_TIMES = ("http-ttfb", "http-response")
"""What moving work can change."""
COSTS = ("reflows", "style-recalcs", "paint", "cls")
"""What the browser does with the page: moving work does not change it, showing results can."""
UNRANKED = "dom-operations"
"""More of them are not worse: one assignment of innerHTML may insert thousands of nodes at once."""


def _changes(keys: Iterable[str], before: Variant, after: Variant) -> Iterator[MeasurementFinding]:
    for key in keys:
        compared = compare(FIGURES[key], before, after)
        if compared is not None:
            words = (Kind.LESS, Kind.MORE) if key in COSTS else (Kind.FASTER, Kind.SLOWER)
            kind = Kind.SAME if compared.same else Kind.UNSURE
            if compared.change:
                kind = words[compared.change > 0]
            yield _change(kind, compared, before, after)


def _change(
    kind: Kind, compared: Comparison, before: Variant, after: Variant
) -> MeasurementFinding:
    figure = compared.figure
    return MeasurementFinding(
        kind,
        after.label,
        _sentence(compared, before, after),
        number=compared.after.median,
        unit=figure.unit,
        threshold=limit_text(figure.threshold, figure.unit),
        source=figure.threshold.source if figure.threshold else None,
        caveat=_caveat(figure, before),
    )


def _sentence(compared: Comparison, before: Variant, after: Variant) -> str:
    was, now = compared.texts
    name = "" if compared.figure.counts else f"{compared.figure.name}: "
    unsure = "" if compared.change or compared.same else ", no difference that can be told"
    return f"{name}{now} in {after.label}, {was} in {before.label}{unsure}"


def _caveat(figure: Figure, before: Variant) -> str | None:
    """Noise is no limit, and a wait that is within the limit breaks none."""
    if not figure.stable:
        return "varies by 100% between loads: never a limit in CI"
    if figure.threshold is None or figure.unit != "ms":
        return None
    value = figure.value(before)
    if value is not None and figure.threshold.rate(value) == "good":
        return f"{before.label} is within this limit too, so no limit is broken here; {LAB}"
    return LAB


def _busy(setup: Setup) -> Iterator[MeasurementFinding]:
    """Other programs make every time longer."""
    load = setup.load_average
    if load is not None and load > setup.cores:
        yield MeasurementFinding(
            Kind.PROBLEM,
            "",
            f"the machine was busy before the measuring began: load average {load:.1f} on "
            f"{setup.cores} cores",
            number=load,
            caveat="times are too long and vary more: measure again when it is idle",
        )


def _queue(variant: Variant) -> Iterator[MeasurementFinding]:
    """The bystander's page: its wait, which the app itself can't see."""
    probed, idle = variant.bystander, variant.idle
    if probed is None or idle is None or probed.p50_ms is None or idle.p50_ms is None:
        return
    slower = _waits(variant)
    wait, base = quantity(probed.p50_ms, "ms"), quantity(idle.p50_ms, "ms")
    sentence = (
        f"With {visitors(probed.clients)} on {variant.label}, the bystander's page takes {wait} "
        f"(p50; {base} when idle)"
    )
    inside = probed.server_p50_ms
    if slower and inside is not None and probed.ttfb_p50_ms is not None:
        queue = quantity(max(probed.ttfb_p50_ms - inside, 0), "ms")
        sentence += (
            f"; the app reports {quantity(inside, 'ms')} for it, because it can't see "
            f"the {queue} in the queue"
        )
    yield MeasurementFinding(
        Kind.QUEUE if slower else Kind.SAME,
        variant.label,
        sentence,
        number=probed.p50_ms,
        unit="ms",
        caveat=FREE_THREADS if hides_queue(variant) else OWN_SERVER,
    )


OWN_SERVER = "depends on the number of server workers and threads: measure your own set-up"
FREE_THREADS = (
    "this server had a free thread or process for each of these visitors, as `flask run` always "
    "has: with more visitors than threads there is a queue. Measure the server that you deploy, "
    "or with more --clients"
)


def _waits(variant: Variant) -> bool:
    """Whether the bystander waits longer than on the idle server."""
    probed, idle = variant.bystander, variant.idle
    if probed is None or idle is None or probed.p50_ms is None or idle.p50_ms is None:
        return False
    return probed.p50_ms > idle.p50_ms + FIGURES["bystander"].slack


def hides_queue(variant: Variant) -> bool:
    """Whether a slow page delays no bystander, because the server has threads to spare."""
    own, probed = variant.probe.p50_ms, variant.bystander
    measured = probed is not None and probed.p50_ms is not None and variant.idle is not None
    return measured and own is not None and own >= HIDDEN_MS and not _waits(variant)


def has_bottleneck(variant: Variant, variants: Sequence[Variant]) -> bool:
    """Whether the longest stage is worth a name: not on a page that is good and quick."""
    whole = pipeline(variant)
    if whole is None or not whole.total_ms:
        return False
    return whole.total_ms > LATE_MS or verdict(variant, variants).rating is not Rating.GOOD


def _bottleneck(variant: Variant) -> Iterator[MeasurementFinding]:
    whole = pipeline(variant)
    if whole is None or not whole.total_ms:
        return
    stage = whole.bottleneck
    caveat = None
    if stage.kind == "waiting":
        caveat = "the app sends no Server-Timing, so its own time and the queue can't be told apart"
    if stage.kind == "fetch":
        caveat = "not the browser's doing: it may be slow to make, or wait for a free worker"
    yield MeasurementFinding(
        Kind.BOTTLENECK,
        variant.label,
        f"{variant.label}: most of the wait is {stage.title}, {quantity(stage.ms, 'ms')} of "
        f"{quantity(whole.total_ms, 'ms')} ({whole.share(stage) * 100:.0f}%)",
        number=stage.ms,
        unit="ms",
        caveat=caveat,
    )


def _of_caveat(kind: Kind, variant: Variant, caveat: Caveat) -> MeasurementFinding:
    return MeasurementFinding(
        kind,
        variant.label,
        f"{variant.label}: {caveat.sentence}",
        number=caveat.number,
        unit=caveat.unit,
        caveat=caveat.remedy,
    )


def headline(measurement: Measurement) -> str:
    """The one or two sentences on top."""
    variants = measurement.variants
    first, last = variants[0], variants[-1]
    return " ".join(
        filter(
            None, [_own_wait(first, last), _bystander_wait(first, last), _free_threads(variants)]
        )
    )


def _own_wait(before: Variant, after: Variant) -> str:
    figure = FIGURES["ttfb" if before.loads and after.loads else "http-ttfb"]
    compared = compare(figure, before, after)
    if compared is None:
        return f"{after.label} did not answer."
    was, now = compared.texts
    if before is after:
        return f"{after.label} answers after {now}."
    if compared.change == 0:
        answer = f"{after.label} and {before.label} answer equally soon ({now} and {was})"
        return f"{answer}{_shown(before, after)}."
    if compared.change > 0:
        return f"{after.label} answers only after {now}, {before.label} after {was}."
    return f"{after.label} answers after {now} instead of {was}."


def _shown(before: Variant, after: Variant) -> str:
    """What is shown later or earlier, although the answer is not."""
    compared = compare(FIGURES["lcp"], before, after)
    if compared is None or not compared.change:
        return ""
    was, now = compared.texts
    return f", but {after.label} shows its largest element after {now} instead of {was}"


def _free_threads(variants: Sequence[Variant]) -> str | None:
    hidden = [variant.label for variant in variants if hides_queue(variant)]
    if not hidden:
        return None
    return (
        f"No queue can show on {' and '.join(hidden)}: this server has a free thread or process "
        "for each of these visitors."
    )


def _bystander_wait(first: Variant, last: Variant) -> str | None:
    """What a bystander waits: compared with the first variant, or with an idle server."""
    other = last.idle if first is last else first.bystander
    if last.bystander is None or other is None:
        return None
    now, was = last.bystander.p50_ms, other.p50_ms
    if now is None or was is None:
        return None
    takes = f"With {visitors(last.bystander.clients)} on it, the bystander's page takes"
    if abs(now - was) <= FIGURES["bystander"].slack:
        return f"{takes} {quantity(now, 'ms')}, no longer than otherwise ({quantity(was, 'ms')})."
    return f"{takes} {quantity(now, 'ms')} instead of {quantity(was, 'ms')}."


def unchanged(measurement: Measurement) -> str | None:
    """What did not change between the first and the last variant, in one sentence."""
    first, last = measurement.variants[0], measurement.variants[-1]
    if first is last:
        return None
    both = [compare(FIGURES[key], first, last) for key in (UNRANKED, *COSTS)]
    still = [each for each in both if each is not None and each.change == 0]
    same = ", ".join(_both(each) for each in still if each.same)
    unsure = ", ".join(_both(each) for each in still if not each.same)
    sentences = (same and f"Unchanged: {same}.", unsure and f"Can't tell: {unsure}.")
    return " ".join(filter(None, sentences)) or None


def _both(compared: Comparison) -> str:
    """A count needs no name; other figures do, and vary a little."""
    was, now = compared.texts
    name = compared.figure.name
    name = name if name.isupper() else name.lower()
    text = now if compared.figure.counts else f"{name} {now}"
    return text if now == was else f"{text} (before: {was})"


def limit_text(threshold: Threshold | None, unit: str) -> str | None:
    """The limits of a figure in words."""
    if threshold is None:
        return None
    poor = f"poor above {quantity(threshold.poor, unit)}"
    if threshold.good == threshold.poor:
        return poor
    return f"good up to {quantity(threshold.good, unit)}, {poor}"


def visitors(count: int) -> str:
    return f"{count} visitor" if count == 1 else f"{count} visitors"
