"""A measurement as a report: one HTML file that needs nothing else, plain text, or JSON."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import jinja2
import msgspec

from .figures import (
    BROWSER_FIGURES,
    BYSTANDER_FIGURES,
    FIGURES,
    HTTP_FIGURES,
    Figure,
    Rating,
    Summary,
    quantity,
)
from .filmstrip import Sheet, contact_sheet
from .findings import (
    Kind,
    MeasurementFinding,
    compare,
    findings,
    has_bottleneck,
    headline,
    limit_text,
    unchanged,
    visitors,
)
from .pipeline import Pipeline, middle, pipeline
from .samples import Measurement, ProbeResult, Variant
from .verdict import Verdict, verdict


@dataclass(frozen=True, slots=True)
class FigureCell:
    """One figure of one variant. change: against the first variant, in words."""

    text: str
    spread: str
    rating: Rating | None
    change: str


@dataclass(frozen=True, slots=True)
class FigureRow:
    figure: Figure
    limits: str | None
    cells: tuple[FigureCell, ...]


@dataclass(frozen=True, slots=True)
class FigureTable:
    title: str
    note: str
    rows: tuple[FigureRow, ...]


def leading(variants: Sequence[Variant]) -> list[Figure]:
    """The figures of the verdict that moving work can change."""
    keys = ["ttfb", "lcp"] if any(variant.loads for variant in variants) else ["http-ttfb"]
    keys += ["bystander-ttfb"] if any(variant.bystander for variant in variants) else []
    return [FIGURES[key] for key in keys]


def unmoved(variants: Sequence[Variant]) -> list[Figure]:
    """The figures of the verdict that belong to the page: moving work does not change them."""
    keys = ("dom-operations", "reflows", "paint")
    return [FIGURES[key] for key in keys] if any(variant.loads for variant in variants) else []


def shown_value(figure: Figure, variant: Variant) -> str:
    """The figure under its title, so a count without its unit.

    A variant that was not loaded in a browser has none of a browser's figures.
    """
    if figure in BROWSER_FIGURES and not variant.loads:
        return "not measured"
    text = figure.text(figure.value(variant))
    return text.partition(" ")[0] if figure.counts else text


HEADINGS = {"http-ttfb": "TTFB", "ttfb": "TTFB", "lcp": "LCP", "bystander-ttfb": "Bystander"}
"""Short titles of the leading figures."""


@dataclass(frozen=True, slots=True)
class BystanderWait:
    """One bar of the bystander chart; url is that of the bystander's page."""

    title: str
    url: str
    p50_ms: float
    slowest_ms: float
    server_ms: float | None
    probes: int
    served: int | None


@dataclass(frozen=True, slots=True)
class MeasurementReport:
    """Everything a renderer shows, in order.

    caveats: those of the findings, each once. bottlenecks: whether each variant's longest stage is
    called one.
    """

    measurement: Measurement
    headline: str
    unchanged: str | None
    problems: tuple[MeasurementFinding, ...]
    findings: tuple[MeasurementFinding, ...]
    caveats: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    pipelines: tuple[Pipeline | None, ...]
    bottlenecks: tuple[bool, ...]
    tables: tuple[FigureTable, ...]
    waits: tuple[BystanderWait, ...]


def report(measurement: Measurement) -> MeasurementReport:
    """Evaluate the samples and arrange the results."""
    variants = measurement.variants
    found = findings(measurement)
    others = [each for each in found if each.kind is not Kind.PROBLEM]
    return MeasurementReport(
        measurement,
        headline(measurement),
        unchanged(measurement),
        tuple(each for each in found if each.kind is Kind.PROBLEM),
        tuple(others),
        tuple(dict.fromkeys(each.caveat for each in others if each.caveat)),
        tuple(verdict(variant, variants) for variant in variants),
        tuple(pipeline(variant) for variant in variants),
        tuple(has_bottleneck(variant, variants) for variant in variants),
        tuple(_tables(variants)),
        tuple(_waits(measurement)),
    )


def _tables(variants: Sequence[Variant]) -> list[FigureTable]:
    tables = []
    if any(variant.loads for variant in variants):
        lists = [v.loads for v in variants], [v.paints for v in variants]
        loads, traced = (_span(len(each) for each in counted) for counted in lists)
        note = f"median of {loads} loads [smallest … largest]; paint from {traced} traced loads"
        tables.append(_table("In the browser", note, BROWSER_FIGURES, variants))
    note = f"{_span(len(v.probe.answers) for v in variants)} requests, one after the other"
    tables.append(_table("Over HTTP", note, HTTP_FIGURES, variants))
    if any(variant.bystander for variant in variants):
        note = "the bystander's page while the variant is in use"
        tables.append(_table("The bystander's page", note, BYSTANDER_FIGURES, variants))
    return tables


def _span(counts: Iterable[int]) -> str:
    """How many there were: 5, or 14 to 20 if not everywhere as many."""
    known = sorted(set(counts))
    return str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _table(
    title: str, note: str, figures: Sequence[Figure], variants: Sequence[Variant]
) -> FigureTable:
    rows = tuple(
        FigureRow(
            figure,
            limit_text(figure.threshold, figure.unit),
            tuple(_cell(figure, variant, variants[0]) for variant in variants),
        )
        for figure in figures
    )
    return FigureTable(title, note, rows)


def _cell(figure: Figure, variant: Variant, first: Variant) -> FigureCell:
    summary = figure.summary(variant)
    if summary is None:
        return FigureCell("none", "", None, "")
    text = figure.text(figure.value(variant))
    spread = _spread(figure, summary)
    return FigureCell(text, spread, figure.rating(variant), _change(figure, variant, first))


def _spread(figure: Figure, summary: Summary) -> str:
    """Smallest and largest, without the unit of the number beside them."""
    if figure.percent == 99 and summary.n < 100:
        return f"(the slowest of {summary.n})"
    if figure.percent != 50 or summary.n == 1:
        return ""
    low, high = (figure.text(value).partition(" ")[0] for value in (summary.low, summary.high))
    return "each time" if low == high else f"[{low} … {high}]"


def _change(figure: Figure, variant: Variant, first: Variant) -> str:
    compared = None if variant is first else compare(figure, first, variant)
    own, others = figure.value(variant), figure.value(first)
    if compared is None or own is None or others is None:
        return ""
    if compared.change == 0:
        return "no change" if own == others else "no difference that can be told"
    return f"{figure.text(abs(own - others))} {'more' if own > others else 'less'}"


def _waits(measurement: Measurement) -> list[BystanderWait]:
    waits = []
    idle = {each.idle.url: each.idle for each in measurement.variants if each.idle is not None}
    for probed in idle.values():
        place = f", at {urlsplit(probed.url).netloc}" if len(idle) > 1 else ""
        waits.append(_wait(f"With the server idle{place}", probed))
    for variant in measurement.variants:
        if variant.bystander is not None:
            title = f"With {visitors(variant.bystander.clients)} on {variant.label}"
            waits.append(_wait(title, variant.bystander))
    return [wait for wait in waits if wait is not None]


def _wait(title: str, probed: ProbeResult) -> BystanderWait | None:
    if probed.p50_ms is None or probed.slowest_ms is None:
        return None
    served = probed.slow_answers if probed.slow_url else None
    return BystanderWait(
        title,
        probed.url,
        probed.p50_ms,
        probed.slowest_ms,
        probed.server_p50_ms,
        len(probed.answers),
        served,
    )


# --- HTML --------------------------------------------------------------------------------------


def render_html(measurement: Measurement) -> str:
    """One file: no scripts, no requests, light and dark, fit for printing."""
    films = [variant for variant in measurement.variants if variant.film is not None]
    sheet = contact_sheet([variant.film for variant in films if variant.film is not None])
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report(measurement),
            setup=measurement.setup,
            variants=measurement.variants,
            sheet=sheet,
            pictures=_data_urls(sheet),
            films=films,
        )
    )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flask_offload.measure"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["quantity"] = lambda value, unit: solid(quantity(value, unit))
    environment.filters["solid"] = solid
    environment.globals |= {
        "middle": middle,
        "leading": leading,
        "unmoved": unmoved,
        "shown_value": shown_value,
        "headings": HEADINGS,
    }
    return environment


def solid(text: str) -> str:
    """Keep every number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=[A-Za-z%])", "\N{NO-BREAK SPACE}", text)


def _data_urls(sheet: Sheet) -> list[str]:
    return [
        "data:image/jpeg;base64," + base64.b64encode(image).decode() for image in sheet.pictures
    ]


# --- JSON --------------------------------------------------------------------------------------


def to_json(measurement: Measurement) -> str:
    """Figures, findings and raw samples as one JSON document; filmstrips are left out.

    `Measurement.save` keeps everything.
    """
    shown = report(measurement)
    document = {
        "headline": shown.headline,
        "unchanged": shown.unchanged,
        "variants": [
            _variant_json(variant, judged, stages)
            for variant, judged, stages in zip(
                measurement.variants, shown.verdicts, shown.pipelines, strict=True
            )
        ],
        "findings": [*shown.problems, *shown.findings],
        "samples": replace(
            measurement,
            variants=tuple(replace(each, film=None) for each in measurement.variants),
        ),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _variant_json(variant: Variant, judged: Verdict, whole: Pipeline | None) -> dict[str, Any]:
    figures = {}
    for figure in HTTP_FIGURES + BROWSER_FIGURES + BYSTANDER_FIGURES:
        summary = figure.summary(variant)
        figures[figure.key] = summary and {
            "value": figure.value(variant),
            "unit": figure.unit,
            "low": summary.low,
            "high": summary.high,
            "n": summary.n,
            "rating": figure.rating(variant),
        }
    return {
        "label": variant.label,
        "url": variant.url,
        "method": variant.method,
        "verdict": judged,
        "figures": figures,
        "pipeline": whole and {"stages": whole.stages, "bottleneck": whole.bottleneck.kind},
    }
