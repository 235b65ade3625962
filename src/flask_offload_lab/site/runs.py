"""`POST /run/<experiment>`: its events, one JSON line each, as they happen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flask import Blueprint, Response, abort, request

from flask_offload.errors import OffloadError

from ..experiments import Event, Events, deep
from ..experiments.checked import fix, step
from ..experiments.headless import headless
from ..experiments.poison import poison
from ..experiments.queueing import queueing
from ..experiments.race import race
from ..experiments.spot import NAMES, spot
from ..experiments.storm import storm
from ..experiments.tips import CHECKS
from ..testbed import LabTestbed
from .content import CHALLENGES, STEPS
from .experiment_run import ExperimentRun
from .lab import Lab, lab

runs = Blueprint("runs", __name__)

PATTERNS = ("sync", "thread", "background")
MAX_VISITORS = 20


class Params:
    """What the page sent; anything unexpected is refused with a 400 and a sentence."""

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
        lab.testbed, params.choice("pattern", PATTERNS), params.number("visitors", 1, MAX_VISITORS)
    )


def _headless(lab: Lab, params: Params) -> Events:
    return headless(lab.testbed, [str(each) for each in params.items("patterns")])


def _tip(lab: Lab, params: Params) -> Events:
    check = CHECKS[params.number("tip", 1, len(CHECKS))]
    if params.choice("on", ("sample_app", "user_app")) == "sample_app":
        return check(lab.testbed.sample_app)
    if lab.user_app is None:
        abort(400, "No app was given with --app.")
    return check(lab.user_app)


def _kill(lab: Lab, params: Params) -> Events:
    pattern = params.choice("pattern", ("thread", "background"))
    if pattern == "background":
        _require(lab, "durable")
    return deep.lost_work(lab.testbed, pattern)


def _deep(
    experiment: Callable[[LabTestbed], Events], *flags: str
) -> Callable[[Lab, Params], Events]:
    """An experiment without parameters, for engines that have one of the flags."""

    def start(lab: Lab, params: Params) -> Events:
        _require(lab, *flags)
        return experiment(lab.testbed)

    return start


def _require(lab: Lab, *flags: str) -> None:
    """Refuse what the sample app's engine can't show; the pages hide it."""
    engine = lab.testbed.engine
    if flags and not any(getattr(engine.flags, flag) for flag in flags):
        abort(400, f"The {engine.name} engine can't show this (flag {flags[-1]!r} is off).")


def _spot(lab: Lab, params: Params) -> Events:
    return spot(lab.testbed, params.choice("route", NAMES))


def _fix(lab: Lab, params: Params) -> Events:
    key = params.choice("challenge", tuple(CHALLENGES))
    return fix(CHALLENGES[key], params.items("order"), params.mapping("choices"))


def _queueing(lab: Lab, params: Params) -> Events:
    return queueing(
        params.number("rate", 1, 40),
        params.number("work", 20, 1000),
        params.number("threads", 1, 8),
        params.number("workers", 1, 4),
    )


def _storm(lab: Lab, params: Params) -> Events:
    return storm(params.choice("jitter", ("off", "on")) == "on")


def _step(lab: Lab, params: Params) -> Events:
    key = params.choice("step", tuple(each.key for each in STEPS))
    if lab.project is None:
        abort(400, "No folder was given with --build.")
    return step(lab.project, key)


EXPERIMENTS: dict[str, Callable[[Lab, Params], Events]] = {
    "race": _race,
    "gil": _deep(deep.interpreter_lock, "own_worker", "worker_command"),
    "backlog": _deep(deep.backlog),
    "kill": _kill,
    "notifier": _deep(deep.notifier, "own_worker"),
    "lock": _deep(deep.worker_lock, "own_worker"),
    "headless": _headless,
    "tip": _tip,
    "spot": _spot,
    "fix": _fix,
    "step": _step,
    "queueing": _queueing,
    "storm": _storm,
    "poison": lambda lab, params: poison(),
}


@runs.post("/run/<name>")
def run(name: str) -> Response:
    """Start an experiment; it ends early when the reader stops it or leaves the page."""
    start = EXPERIMENTS.get(name) or abort(404, "There is no such experiment.")
    try:
        given = request.get_json()
    except RecursionError:
        abort(400, "The request is nested too deeply.")
    try:
        events = start(lab(), Params(given if isinstance(given, dict) else {}))
    except OffloadError as error:
        abort(400, str(error))
    running = ExperimentRun(events, lab().testbed.exclusive)
    return Response(_lines(running.events()), mimetype="application/x-ndjson")


def _lines(events: Iterator[Event | None]) -> Iterator[str]:
    for event in events:
        yield "\n" if event is None else json.dumps(event) + "\n"
