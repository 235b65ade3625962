"""A measurement for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .pipeline import middle
from .report import HEADINGS, FigureTable, MeasurementReport, leading, report, shown_value, unmoved
from .samples import Measurement

BAR = 30


def render_text(measurement: Measurement) -> str:
    """The report without pictures; at most about 100 columns for two variants."""
    shown = report(measurement)
    blocks = [
        [shown.headline, *filter(None, [shown.unchanged])],
        [f"! {each.sentence}: {each.caveat}" for each in shown.problems],
        list(_verdicts(shown)),
        *(list(_table(table, shown)) for table in shown.tables),
        list(_limits(shown)),
        list(_largest(measurement)),
        list(_pipelines(shown)),
        list(_waits(shown)),
        [f"- {each.sentence}" for each in shown.findings if each.kind == "caveat"],
        list(_setup(measurement)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _verdicts(shown: MeasurementReport) -> Iterator[str]:
    variants = shown.measurement.variants
    lead, same = leading(variants), unmoved(variants)
    titles = [HEADINGS[figure.key] for figure in lead]
    rows = [["Pattern", *titles, *(figure.name for figure in same), "Verdict"]]
    for variant, judged in zip(variants, shown.verdicts, strict=True):
        measured = [shown_value(figure, variant) for figure in (*lead, *same)]
        rows.append([variant.label, *measured, str(judged)])
    yield from _columns(rows)
    if same:
        yield "Moving work does not change DOM operations, reflows and paint cost."


def _table(table: FigureTable, shown: MeasurementReport) -> Iterator[str]:
    yield f"{table.title} ({table.note})"
    rows = [["", *(variant.label for variant in shown.measurement.variants)]]
    for row in table.rows:
        cells = [
            " ".join(
                filter(None, [cell.rating.sign if cell.rating else "", cell.text, cell.spread])
            )
            for cell in row.cells
        ]
        rows.append([f"  {row.figure.title}", *cells])
    yield from _columns(rows)


def _limits(shown: MeasurementReport) -> Iterator[str]:
    """Each source once."""
    yield "Limits: ✓ good, ! needs improvement, ✗ poor"
    rows = {
        row.figure.threshold.source: row.limits
        for table in shown.tables
        for row in table.rows
        if row.figure.threshold and row.limits
    }
    yield from _columns([[f"  {source}", limits] for source, limits in rows.items()])
    yield "  meant for the 75th percentile of real visitors; here is one machine, without a network"


def _largest(measurement: Measurement) -> Iterator[str]:
    """The largest element, which LCP is the time of."""
    named = []
    for variant in measurement.variants:
        if variant.loads:
            load = middle(variant.loads)
            element = "none" if load.lcp_ms is None else load.lcp_element or "unknown"
            named.append(f"{element} in {variant.label}")
    if named:
        yield f"Largest element, whose time is LCP: {', '.join(named)}"


def _pipelines(shown: MeasurementReport) -> Iterator[str]:
    variants = shown.measurement.variants
    for variant, whole, named in zip(variants, shown.pipelines, shown.bottlenecks, strict=True):
        if whole is None or not whole.total_ms:
            continue
        parts = ", ".join(
            f"{stage.title} {stage.ms:,.0f} ms ({whole.share(stage) * 100:.0f}%)"
            for stage in whole.stages
        )
        yield f"Where {variant.label} spends its {whole.total_ms:,.0f} ms: {parts}"
        if named:
            yield f"  bottleneck: {whole.bottleneck.title}"


def _waits(shown: MeasurementReport) -> Iterator[str]:
    if not shown.waits:
        return
    yield "The bystander's page"
    longest = max(wait.p50_ms for wait in shown.waits)
    width = max(len(wait.title) for wait in shown.waits)
    for wait in shown.waits:
        bar = "█" * max(round(BAR * wait.p50_ms / longest), 1)
        text = f"p50 {wait.p50_ms:,.1f} ms, slowest {wait.slowest_ms:,.1f} ms"
        yield f"  {wait.title.ljust(width)}  {bar.ljust(BAR)}  {text}"


def _setup(measurement: Measurement) -> Iterator[str]:
    setup = measurement.setup
    browser = setup.browser or f"no browser ({setup.browser_note})"
    yield f"{setup.taken_at}, {setup.platform}, {setup.cores} cores, {browser}"
