"""What a run may cost: limits kept in pyproject.toml, and an earlier run to compare with.

Two runs of one app differ by noise, and by how busy the machine is. So a regression is only what is
far above both: see `check_baseline`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..errors import OffloadError
from .figures import FIGURES, Figure
from .findings import compare
from .limits import Check, Limit, parse_limit
from .samples import Measurement, Variant

TABLE = "tool.flask-offload.budget"
FACTOR = 1.5
"""A regression is at least this many times the earlier median. Not a standard: in 200 runs of an
unchanged app, half of them beside programs that used both cores, it was never reached twice in a
row (docs/measure.md)."""
SLACK = {"ms": 50.0, "reflows": 10.0, "score": 0.1}
"""… and at least this much more than it, by unit."""
COMPARED = ("http-ttfb", "http-response", "ttfb", "response", "lcp", "bystander", "reflows", "cls")


class BadBudget(OffloadError):
    """The budget in pyproject.toml can't be read: write FIGURE = "VALUE", as in ttfb = "600ms"."""


class BadBaseline(OffloadError):
    """The file given with --baseline is not what `flask offload measure --save` writes."""


def read_budget(folder: Path) -> tuple[Limit, ...]:
    """The limits in `[tool.flask-offload.budget]` of the nearest pyproject.toml, upwards from
    `folder`; none without it. Keys are figures, or LABEL:FIGURE, or a table of figures for a label.

    Raises BadBudget; BadLimit for a figure or a value that is none.
    """
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if path.is_file():
            return tuple(parse_limit(text) for text in _texts(path))
    return ()


def _texts(path: Path) -> Iterator[str]:
    try:
        found: Any = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadBudget(f"{path} can't be read: {error}") from None
    for key in TABLE.split("."):
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    if not isinstance(found, Mapping):
        raise BadBudget(f'[{TABLE}] in {path} is not a table of figures: write ttfb = "600ms"')
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from (f"{key}:{figure}={limit}" for figure, limit in value.items())
        else:
            yield f"{key}={value}"


def read_baseline(path: Path) -> Measurement:
    """An earlier run. Raises BadBaseline."""
    try:
        return Measurement.load(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadBaseline(
            f"{path} is not an earlier run ({error}): write one with --save {path.name}"
        ) from None


def check_baseline(now: Measurement, earlier: Measurement, name: str) -> list[Check]:
    """Compare each variant with the one of the same label. name: of the earlier run, in sentences.

    A figure has regressed if its median is FACTOR times and SLACK more than the earlier one, both
    taken as long as this machine is slower now, and the middle 80% of the values do not overlap.
    """
    known = {variant.label: variant for variant in earlier.variants}
    slower = _slower(now, earlier)
    checks: list[Check] = []
    for variant in now.variants:
        if variant.label in known:
            checks += _compared(variant, known[variant.label], slower, name)
    return checks


def _slower(now: Measurement, earlier: Measurement) -> float:
    """How many times as long the machine takes now; 1 if it is quicker, or not known."""
    one, other = earlier.setup.work_ms, now.setup.work_ms
    return max(other / one, 1.0) if one and other else 1.0


def _compared(variant: Variant, earlier: Variant, slower: float, name: str) -> Iterator[Check]:
    for key in COMPARED:
        figure = FIGURES[key]
        compared = compare(figure, earlier, variant)
        if compared is None:
            continue
        allowed = _allowed(figure, compared.before.median, slower)
        passed = compared.change <= 0 or compared.after.median <= allowed
        was, value = compared.texts
        yield Check(
            f"{variant.label}: {key} as in {name}",
            variant.label,
            compared.after.median,
            passed,
            f"{variant.label}: {figure.name} {value}, {was} in {name}"
            f" (a regression is above {figure.text(allowed)})",
        )


def _allowed(figure: Figure, before: float, slower: float) -> float:
    scale = slower if figure.unit == "ms" else 1.0
    return max(before * FACTOR, before + SLACK[figure.unit]) * scale
