"""What every template of the dashboard has: the token of its forms, access, and how values read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from flask import current_app, g, render_template
from markupsafe import Markup

from .. import textui
from ..state import AppRegistry
from .access import FIELD, token
from .shown import breakable, printable

SECTIONS = (
    ("overview", "Overview", None),
    ("jobs", "Jobs", "lists"),
    ("failures", "Failures", "lists"),
    ("queues", "Queues", "lists"),
    ("schedules", "Schedules", "schedules"),
    ("workers", "Workers", None),
    ("routes", "Routes", None),
)
"""Endpoint, title, and the flag that the engine needs for it."""

SENTENCES = {
    "retry": "The job is back in its queue.",
    "cancel": "The job was cancelled, or asked to stop.",
    "force": "The process of the job is being replaced, and the job ended.",
    "pause": "The queue is paused: its running jobs finish, no others start.",
    "resume": "The queue is open again.",
    "run": "A job of the schedule was enqueued.",
    "disable": "The schedule is disabled: it makes no jobs until it is enabled again.",
    "enable": "The schedule is enabled. Times that have passed meanwhile make no jobs.",
    "discard": "The job was discarded: nothing is kept of it.",
    "stop": "The worker was asked to stop: it finishes what it runs.",
}
"""What the page says after an action, by the name of the action."""


def context(offload: AppRegistry) -> dict[str, Any]:
    """The variables of every template."""
    engine = offload.engine
    return {
        "may_act": g.get("offload_dashboard_access") == "full",
        "hidden": _hidden_fields,
        "engine": engine,
        "flags": engine.flags,
        "sections": [
            (endpoint, title)
            for endpoint, title, flag in SECTIONS
            if flag is None or getattr(engine.flags, flag)
        ],
        "ago": lambda moment: textui.ago(time.time() - _seconds(moment)),
        "clock": clock,
        "instant": instant,
        "lasted": textui.duration,
        "number": lambda value: f"{value:,}",
        "printable": printable,
        "breakable": breakable,
    }


def page(name: str, **values: Any) -> str:
    """A page of the dashboard."""
    return render_template(f"offload_dashboard/{name}.html", **values)


def clock(moment: datetime | float | None) -> Markup:
    """A `<time>` in UTC; the script shows it in the visitor's own time zone."""
    if moment is None:
        return Markup("")
    known = datetime.fromtimestamp(_seconds(moment), UTC)
    text = f"{known:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}">{}</time>').format(known.isoformat(), text)


def instant(moment: datetime) -> Markup:
    """A `<time>` of the day in UTC to the millisecond; the date is its title."""
    text = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    made = Markup('<time class="exact" datetime="{}" title="{}">{}</time>')
    return made.format(moment.isoformat(), f"{moment:%Y-%m-%d} UTC", text)


def _seconds(moment: datetime | float) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


def _hidden_fields() -> Markup:
    """The fields that prove that a form is of this dashboard; Flask-WTF's too, where it is."""
    fields = Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, token())
    make = current_app.jinja_env.globals.get("csrf_token")
    if callable(make):
        fields += Markup('<input type="hidden" name="csrf_token" value="{}">').format(make())
    return fields
