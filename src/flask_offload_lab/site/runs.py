"""`POST /run/<experiment>`: what happens, line by line, as it happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from flask import Blueprint, Response, abort, request

from flask_offload.errors import OffloadError

from ..experiments import Events, deep
from ..experiments.checked import fix, step
from ..experiments.headless import headless
from ..experiments.race import race
from ..experiments.spot import NAMES, spot
from ..experiments.tips import CHECKS
from .building import STEPS
from .challenges import CHALLENGES
from .lab import Lab, lab

runs = Blueprint("runs", __name__)
T = TypeVar("T", bound=str)

PATTERNS = ("sync", "thread", "background")
MAX_VISITORS = 20


class Params:
    """What the page sent; anything unexpected ends in a 400 with a sentence."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def choice(self, name: str, choices: tuple[str, ...]) -> Any:
        """One of a few words."""
        value = self._given.get(name)
        if value not in choices:
            abort(400, f"{name} is one of {', '.join(choices)}.")
        return value

    def items(self, name: str) -> list[object]:
        """A list of anything."""
        value = self._given.get(name, [])
        return value if isinstance(value, list) else abort(400, f"{name} is a list.")

    def mapping(self, name: str) -> dict[str, object]:
        """An object of anything."""
        value = self._given.get(name, {})
        return value if isinstance(value, dict) else abort(400, f"{name} is an object.")

    def number(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self._given.get(name)
        if type(value) is not int or not low <= value <= high:
            abort(400, f"{name} is a whole number from {low} to {high}.")
        return value


def _race(lab: Lab, params: Params) -> Events:
    return race(
        lab.bench, params.choice("pattern", PATTERNS), params.number("visitors", 1, MAX_VISITORS)
    )


def _headless(lab: Lab, params: Params) -> Events:
    return headless(lab.bench, [str(each) for each in params.items("patterns")])


def _tip(lab: Lab, params: Params) -> Events:
    check = CHECKS[params.number("tip", 1, len(CHECKS))]
    guest = params.choice("on", ("club", "guest")) == "guest"
    if not guest:
        return check(lab.bench.club)
    if lab.guest is None:
        abort(400, "No app was given with --app.")
    return check(lab.guest)


def _kill(lab: Lab, params: Params) -> Events:
    pattern = params.choice("pattern", ("thread", "background"))
    if pattern == "background":
        _needs(lab, "durable")
    return deep.lost_work(lab.bench, pattern)


def _gil(lab: Lab, params: Params) -> Events:
    if not lab.bench.engine.has_worker:
        _needs(lab, "worker_command")
    return deep.interpreter_lock(lab.bench)


def _bell(lab: Lab, params: Params) -> Events:
    _needs(lab, "own_worker")
    return deep.bell(lab.bench)


def _lock(lab: Lab, params: Params) -> Events:
    _needs(lab, "own_worker")
    return deep.lock(lab.bench)


def _needs(lab: Lab, flag: str) -> None:
    """Refuse what the club's engine can't show; the pages hide it."""
    engine = lab.bench.engine
    if not getattr(engine.flags, flag):
        abort(400, f"The {engine.name} engine can't show this (flag {flag!r} is off).")


def _spot(lab: Lab, params: Params) -> Events:
    return spot(lab.bench, params.choice("route", NAMES))


def _fix(lab: Lab, params: Params) -> Events:
    key = params.choice("challenge", tuple(CHALLENGES))
    return fix(CHALLENGES[key], params.items("order"), params.mapping("choices"))


def _step(lab: Lab, params: Params) -> Events:
    key = params.choice("step", tuple(each.key for each in STEPS))
    if lab.project is None:
        abort(400, "No folder was given with --build.")
    return step(lab.project, key)


EXPERIMENTS: dict[str, Callable[[Lab, Params], Events]] = {
    "race": _race,
    "gil": _gil,
    "door": lambda lab, _: deep.door(lab.bench),
    "kill": _kill,
    "bell": _bell,
    "lock": _lock,
    "headless": _headless,
    "tip": _tip,
    "spot": _spot,
    "fix": _fix,
    "step": _step,
}


@runs.post("/run/<name>")
def run(name: str) -> Response:
    """Start an experiment; it ends early when the reader leaves the page."""
    start = EXPERIMENTS.get(name) or abort(404, "There is no such experiment.")
    given = request.get_json()
    try:
        events = start(lab(), Params(given if isinstance(given, dict) else {}))
    except OffloadError as error:
        abort(400, str(error))
    return Response(_lines(_one_at_a_time(lab(), events)), mimetype="application/x-ndjson")


def _one_at_a_time(lab: Lab, events: Events) -> Events:
    """Experiments share the club: a second one would spoil the figures of the first."""
    alone = lab.bench.alone
    if not alone.acquire(blocking=False):
        yield {"waiting": "Another experiment is still running; this one is next."}
        alone.acquire()
    try:
        yield from events
    except OffloadError as error:
        yield {"error": str(error)}
    finally:
        alone.release()


def _lines(events: Events) -> Iterator[str]:
    for event in events:
        yield json.dumps(event) + "\n"
