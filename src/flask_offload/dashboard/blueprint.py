"""The addresses of the dashboard, and the gate before each of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, current_app, g, request, url_for
from werkzeug.exceptions import NotFound

from ..errors import (
    ConfigError,
    EngineUnavailable,
    InvalidTransition,
    JobNotFound,
    UnsupportedByEngine,
)
from ..state import AppRegistry
from ..web.assets import Assets
from ..web.hosts import EveryHost
from . import access, forms
from .actions import Actions
from .bulk import Bulk
from .health import health
from .pages import Pages

NAME = "offload_dashboard"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src"
        " 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def install(app: Flask, offload: AppRegistry, prefix: str) -> None:
    """Add the dashboard to the app. prefix: OFFLOAD_URL_PREFIX."""
    path = f"{prefix}/dashboard"
    app.before_request(partial(_before_routing_errors, path))
    app.register_blueprint(_make_blueprint(offload, path), url_prefix=path)
    access.exempt_from_flask_wtf(app, NAME)
    app.register_blueprint(_make_status_blueprint(app, offload), url_prefix=prefix)


def _make_status_blueprint(app: Flask, offload: AppRegistry) -> Blueprint:
    """`health`, and `metrics` if the app has switched it on. Raises ConfigError."""
    blueprint = Blueprint("offload_status", __name__)
    blueprint.add_url_rule("/health", "health", _view(health, offload))
    if offload.state_of(app).config.metrics is not False:
        try:
            from .metrics import metrics
        except ImportError as error:
            raise ConfigError(
                "OFFLOAD_METRICS needs prometheus-client: pip install 'Flask-Offload[metrics]'"
            ) from error
        blueprint.add_url_rule("/metrics", "metrics", _view(metrics, offload))

    @blueprint.errorhandler(EngineUnavailable)
    def unavailable(error: EngineUnavailable) -> Response:
        return Response("The engine can't be reached.\n", 503, mimetype="text/plain")

    return blueprint


def _view(
    answer: Callable[[AppRegistry], Response], offload: AppRegistry
) -> Callable[[], Response]:
    """A function, with the names that Flask-Limiter and others read from every view."""

    def view() -> Response:
        return answer(offload)

    return view


def _before_routing_errors(path: str) -> None:
    """Where an address exists, Werkzeug answers other methods with 405 and other spellings with a
    redirect, before any gate: below the dashboard both are not found, open or closed."""
    if request.blueprint == NAME:
        access.exempt_from_flask_wtf(current_app, NAME)  # it may be newer than this
    elif request.routing_exception is not None:
        asked = re.sub("/{2,}", "/", request.path)
        if asked == path or asked.startswith(f"{path}/"):
            abort(404)


def _make_blueprint(offload: AppRegistry, path: str) -> Blueprint:
    blueprint = EveryHost(NAME, __name__, template_folder="templates")
    pages, actions, bulk = Pages(offload), Actions(offload), Bulk(offload)
    assets = Assets(Path(__file__).parent / "static", f"{NAME}.asset", "private")
    route = partial(blueprint.add_methods, _not_allowed, strict_slashes=False)
    route("/", "overview", GET=pages.overview)
    route("/jobs", "jobs", GET=pages.jobs)
    route("/jobs/<job_id>", "job", GET=pages.job, POST=actions.on_job)
    route("/failures", "failures", GET=pages.failures)
    route("/queues", "queues", GET=pages.queues, POST=actions.on_queue)
    route("/schedules", "schedules", GET=pages.schedules, POST=actions.on_schedule)
    route("/workers", "workers", GET=pages.workers, POST=actions.on_worker)
    route("/routes", "routes", GET=pages.routes)
    route("/bulk", "bulk", GET=bulk.ask, POST=bulk.act)
    route("/assets/<digest>/<name>", "asset", GET=assets.send)
    blueprint.before_request(partial(_gate, offload))
    blueprint.after_request(partial(_after, path))
    blueprint.context_processor(lambda: forms.context(offload))
    blueprint.add_app_template_global(assets.url, "offload_dashboard_asset")
    _handle_errors(blueprint)
    return blueprint


def _not_allowed(text: str) -> Response:
    return _sorry(405, "Not like this", text)


def _gate(offload: AppRegistry) -> Response | None:
    """Not found without access; for actions, full access and a token."""
    granted = access.access(offload)
    if granted is None:
        raise NotFound
    g.offload_dashboard_access = granted
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    if granted != "full":
        return _sorry(403, "You may look", "Your access to this dashboard is for reading only.")
    if not access.is_meant():
        text = "The form was of another visit: go back, load the page again, and repeat it."
        return _sorry(403, "Nothing was done", text)
    return None


def _after(path: str, response: Response) -> Response:
    if "offload_dashboard_access" in g:  # a closed dashboard's 404 is like any other of the app
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        access.keep_token(response, request.script_root + path)
    return response


def _handle_errors(blueprint: Blueprint) -> None:
    @blueprint.errorhandler(JobNotFound)
    def not_found(error: JobNotFound) -> Response:
        text = "There is no job with this id, or its retention time is over, or it was discarded."
        return _sorry(404, "No such job", text)

    @blueprint.errorhandler(InvalidTransition)
    def conflict(error: InvalidTransition) -> Response:
        return _sorry(409, "Nothing was done", f"{error}.")

    @blueprint.errorhandler(UnsupportedByEngine)
    def unsupported(error: UnsupportedByEngine) -> Response:
        return _sorry(501, "Not with this engine", f"{error}.")

    @blueprint.errorhandler(EngineUnavailable)
    def unavailable(error: EngineUnavailable) -> Response:
        response = _sorry(503, "The jobs cannot be read at the moment", f"{error}.")
        response.headers["Retry-After"] = "5"
        return response


def _sorry(status: int, title: str, text: str) -> Response:
    home = url_for(f"{NAME}.overview")
    page = forms.page("sorry", title=title, text=text, home=home)
    return Response(page, status, mimetype="text/html")
