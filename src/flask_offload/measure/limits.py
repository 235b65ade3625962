"""Limits for CI: `--fail-above ttfb=800ms`, checked against a measurement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OffloadError
from .figures import FIGURES, Figure, quantity
from .samples import Measurement, Variant

_LIMIT = re.compile(
    r"(?:(?P<label>.+):)?(?P<key>[a-z0-9-]+)\s*=\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s)?"
)
WITHOUT_BROWSER = {"ttfb": "http-ttfb", "response": "http-response"}
"""Figures that are those over HTTP where there is no browser."""


class BadLimit(OffloadError):
    """A limit is written FIGURE=VALUE, for example ttfb=800ms, or LABEL:FIGURE=VALUE."""


@dataclass(frozen=True, slots=True)
class Limit:
    """label: the one variant that it is for; None: for all of them. most: in the figure's unit."""

    figure: Figure
    most: float
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A limit compared with one variant. value: None if it was not measured, which is a failure."""

    name: str
    variant: str
    value: float | None
    passed: bool
    sentence: str


def parse_limit(text: str) -> Limit:
    """Read [LABEL:]FIGURE=VALUE; times in ms or s, counts and scores without a unit.

    Raises BadLimit.
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise BadLimit(f"{text!r} is not a limit: write FIGURE=VALUE, for example ttfb=800ms")
    figure = FIGURES.get(match["key"])
    usable = ", ".join(key for key, each in FIGURES.items() if each.stable)
    if figure is None:
        raise BadLimit(f"there is no figure {match['key']!r}: use one of {usable}")
    if not figure.stable:
        raise BadLimit(
            f"{figure.key} varies by 100% between loads, so a limit would fail by chance: "
            f"use one of {usable}"
        )
    if (match["unit"] is not None) != (figure.unit == "ms"):
        example = "800ms or 0.8s" if figure.unit == "ms" else "a bare number"
        raise BadLimit(f"{figure.key} is given in {figure.unit}: write {figure.key}={example}")
    factor = 1_000 if match["unit"] == "s" else 1
    return Limit(figure, float(match["number"]) * factor, match["label"])


def check_labels(limits: Sequence[Limit], labels: Sequence[str]) -> None:
    """Raise BadLimit if a limit is for something that is not being measured."""
    for limit in limits:
        if limit.label is not None and limit.label not in labels:
            raise BadLimit(f"nothing here is called {limit.label!r}: {', '.join(labels)}")


def check_limits(limits: Sequence[Limit], measurement: Measurement) -> list[Check]:
    """Compare every limit with every variant that it is for."""
    return [
        _check(limit, variant)
        for limit in limits
        for variant in measurement.variants
        if limit.label in (None, variant.label)
    ]


def _check(limit: Limit, variant: Variant) -> Check:
    figure = limit.figure
    if not variant.loads:
        figure = FIGURES[WITHOUT_BROWSER.get(figure.key, figure.key)]
    value = figure.value(variant)
    most = quantity(limit.most, figure.unit)
    name = f"{variant.label}: {limit.figure.key} up to {most}"
    failures = variant.failures(bystander=figure.key.startswith("bystander"))
    if failures:
        failed = "; ".join(failures)
        return Check(name, variant.label, value, False, f"{name}: {failed}")
    if value is None:
        return Check(name, variant.label, None, False, f"{name}: was not measured")
    sentence = f"{name}: measured {figure.text(value)} ({_source(figure)})"
    return Check(name, variant.label, value, value <= limit.most, sentence)


def _source(figure: Figure) -> str:
    where = "over HTTP" if figure.key.startswith("http-") else "in the browser"
    if figure.key.startswith("bystander"):
        where = "the bystander's page, over HTTP"
    return f"{figure.title}; {where}"
