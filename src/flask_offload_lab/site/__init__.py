"""The lab's web app: a page for each mode, and the experiments that they run."""

from __future__ import annotations

from flask import Flask
from werkzeug.exceptions import HTTPException

from ..origin_check import OriginCheck
from .code import highlight, with_code
from .lab import Lab
from .modes import BY_SLUG, LESSON_MINUTES, MODES, QUICK_WAY
from .pages import pages
from .photos import photos
from .progress import done
from .recall import recall
from .runs import runs

MAX_REQUEST = 13 * 1024 * 1024
"""Bytes: a photo, and the form around it."""


def create_lab(lab: Lab, origin: str) -> Flask:
    """The app, for a threaded web server: an experiment keeps its connection while it runs.

    origin: where it is reached; requests under any other host name are refused.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST
    app.extensions["lab"] = lab
    sample_app = lab.testbed.sample_app.origin
    OriginCheck(origin, frames=[sample_app], links=True).install(app)
    app.jinja_env.filters["highlight"] = highlight
    app.jinja_env.filters["with_code"] = with_code
    app.jinja_env.filters["indented"] = lambda code: code.replace(" ", "\N{NO-BREAK SPACE}")
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.context_processor(
        lambda: {
            "modes": MODES,
            "by_slug": BY_SLUG,
            "quick_way": QUICK_WAY,
            "lesson_minutes": LESSON_MINUTES,
            "done": done(),
            "sample_app": sample_app,
            "engine": lab.testbed.engine,
        }
    )
    app.register_blueprint(pages)
    app.register_blueprint(recall)
    app.register_blueprint(runs)
    app.register_blueprint(photos)
    app.register_error_handler(HTTPException, _plain_error)
    return app


def _plain_error(error: HTTPException) -> tuple[str, int, dict[str, str]]:
    """A sentence, not a page: no link of the lab leads to an error."""
    return f"{error.description}\n", error.code or 500, {"Content-Type": "text/plain"}
