"""The verdict on one variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .figures import FIGURES, Figure, Rating, quantity
from .samples import Variant

MANY_REFLOWS = 10
"""This many more reflows than the leanest variant need improvement. Not a standard limit: a page
that reads a size after each row it adds has one reflow for every row."""

_BROWSER_CHECKS = ("ttfb", "waiting", "fcp", "lcp", "cls")


@dataclass(frozen=True, slots=True)
class Verdict:
    """rating: the worst of all checks. reasons: those that led to it; empty if all is good."""

    rating: Rating
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        because = f": {self.reasons[0]}" if self.reasons else ""
        return f"{self.rating.sign} {self.rating.capitalize()}{because}"


def verdict(variant: Variant, variants: Sequence[Variant]) -> Verdict:
    """Compare one variant with the limits; `variants`: all that were measured with it."""
    checks = list(_checks(variant, variants))
    order = list(Rating)
    worst = max((rating for rating, _ in checks), key=order.index, default=Rating.GOOD)
    if worst is Rating.GOOD:
        return Verdict(worst, ())
    return Verdict(worst, tuple(reason for rating, reason in checks if rating is worst))


def _checks(variant: Variant, variants: Sequence[Variant]) -> Iterator[tuple[Rating, str]]:
    for failure in variant.failures():
        yield Rating.POOR, failure
    keys = _BROWSER_CHECKS if variant.loads else ("http-ttfb",)
    for figure in [FIGURES[key] for key in (*keys, "bystander-ttfb")]:
        rating = figure.rating(variant)
        if rating is not None:
            yield rating, _reason(figure, variant)
    more = _more_reflows(variant, variants)
    if more is not None and more >= MANY_REFLOWS:
        yield Rating.FAIR, f"{quantity(more, 'reflows')} more than the leanest variant"


def _reason(figure: Figure, variant: Variant) -> str:
    value = figure.text(figure.value(variant))
    limit = figure.text(figure.threshold.good) if figure.threshold else ""
    name = "The bystander's TTFB" if figure.key == "bystander-ttfb" else figure.name
    return f"{name} {value}, limit {limit}"


def _more_reflows(variant: Variant, variants: Sequence[Variant]) -> float | None:
    figure = FIGURES["reflows"]
    own = figure.value(variant)
    known = [value for other in variants if (value := figure.value(other)) is not None]
    return own - min(known) if own is not None else None
