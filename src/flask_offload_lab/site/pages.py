"""The lab's pages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response as BaseResponse

from flask_offload.measure import LCP, LIGHTHOUSE, TTFB

from ..experiments.deep import OTHERS
from ..project import SOLVED, NotAFolder, prepare
from ..sample_app import app
from .code import source
from .content import CHALLENGES, PATTERNS, ROWS, STEPS, TIPS
from .lab import lab
from .modes import BY_SLUG, MODES, Mode
from .photos import has_photo
from .progress import done, remember
from .spots import SPOTS

pages = Blueprint("pages", __name__)

PROJECT = "offload-project"
"""The folder that the button of Build makes, where the lab was started."""

FORECAST = 0.8
"""Seconds that the service behind Spot's weather page takes."""


@pages.get("/")
def home() -> str:
    """What this is, and the modes."""
    finished = done()
    following = next((mode for mode in MODES if mode.slug not in finished), MODES[0])
    return render_template("home.html", mode=None, table=lab().table, next=following)


@pages.post("/done/<slug>")
def finish(slug: str) -> BaseResponse:
    """The reader has finished a mode: remember it, and go to the next."""
    if slug not in BY_SLUG:
        abort(404)
    following = _following(BY_SLUG[slug])
    target = following.path if following else "/"
    return remember(redirect(target, 303), done() | {slug})


@pages.get("/why")
def why() -> str:
    """The reason, in one minute."""
    return _page("why", start=_start())


@pages.get("/see")
def see() -> str:
    """The same four requests, three times, drawn while they happen."""
    return _page("see")


@pages.get("/measure")
def measure() -> str:
    """The lesson's own page: patterns, table, pipeline, LCP, tips, DevTools."""
    views = {"sync": app.sync, "thread": app.thread, "background": app.background}
    sources = {name: source(view) for name, view in views.items()}
    sources["welcome"] = source(app.welcome)
    user_app = lab().user_app
    return _page(
        "measure",
        sources=sources,
        patterns=PATTERNS,
        rows=ROWS,
        tips=TIPS,
        user_app=user_app and user_app.name,
        limits={
            name: {"good": limit.good, "poor": limit.poor}
            for name, limit in (("answer", LIGHTHOUSE), ("ttfb", TTFB), ("lcp", LCP))
        },
    )


@pages.get("/deep")
def deep() -> str:
    """What a thread costs, and how the worker, the notifier and the lock avoid it."""
    return _page("deep", others_waiting=OTHERS)


@pages.get("/queue")
def queue() -> str:
    """A load and its formula; retries that come together; a job that kills its worker."""
    return _page("queue")


@pages.get("/try")
def try_it() -> str:
    """Press the buttons."""
    note = "Your photo is in use." if has_photo() else "The photo of Grace Hopper is in use."
    return _page("try", has_photo=has_photo(), photo_note=note)


@pages.get("/spot")
def spot() -> str:
    """Find the blocking line in five small routes."""
    return _page("spot", spots=SPOTS)


@pages.get("/fix")
def fix() -> str:
    """Put a blocking view together so that it no longer blocks."""
    return _page("fix", challenges=CHALLENGES.values())


@pages.get("/build")
def build() -> str:
    """A project in the reader's own editor."""
    port = lab().testbed.mail.port
    solved = SOLVED.read_text(encoding="utf-8")
    folder = Path.cwd() / PROJECT
    return _page(
        "build", steps=STEPS, solved=solved, project=lab().project, folder=folder, smtp_port=port
    )


@pages.post("/build/folder")
def make_folder() -> BaseResponse:
    """Make the project's folder, for a lab that was started without --build."""
    if lab().project is None:
        try:
            lab().project = prepare(Path.cwd() / PROJECT)
        except NotAFolder as error:
            return Response(f"{error}\n", 409, mimetype="text/plain")
    return redirect(url_for("pages.build"), 303)


@pages.get("/slow/forecast")
def forecast() -> dict[str, Any]:
    """The network service that one of the routes of Spot calls."""
    time.sleep(FORECAST)
    return {"celsius": 11.6, "sky": "a clear sky"}


def _page(slug: str, **values: Any) -> str:
    mode = BY_SLUG[slug]
    return render_template(f"{slug}.html", mode=mode, following=_following(mode), **values)


def _following(mode: Mode) -> Mode | None:
    return MODES[mode.number] if mode.number < len(MODES) else None


def _start() -> dict[str, Any]:
    """What Why shows before its button is pressed: the figures of the table, where there is one."""
    table = lab().table
    start: dict[str, Any] = {"most": 1500, "source": "Nothing measured yet: press the button."}
    for pattern in ("sync", "background"):
        row = table.row(pattern) if table else None
        start[pattern] = {
            "visitor": row and row.route.p50_ms,
            "bystander": row and row.bystander.p50_ms,
            "work": row and row.work_ms,
        }
        if row and row.bystander.p50_ms:
            start["most"] = max(start["most"], row.bystander.p50_ms)
    if table:
        start["source"] = "Measured when the lab started: medians, four people joining at once."
    return start
