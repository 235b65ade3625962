"""The addresses under OFFLOAD_URL_PREFIX."""

from __future__ import annotations

import uuid
from functools import partial
from pathlib import Path

import msgspec
from flask import Blueprint, Response, request

from ..errors import (
    EngineUnavailable,
    InvalidTransition,
    JobNotFound,
    UnsupportedByEngine,
)
from ..state import AppRegistry
from .assets import Assets
from .hosts import EveryHost
from .pages import duration, progress, sentence
from .problems import problem
from .resource import JobResource, TooManyPolls
from .words import NO_SUCH_JOB, UNAVAILABLE, language, say


def make_blueprint(offload: AppRegistry) -> Blueprint:
    """The routes `offload.job`, `offload.result`, `offload.cancel`, `offload.retry`, …"""
    blueprint = EveryHost("offload", __name__, template_folder="templates")
    resource = JobResource(offload)
    assets = Assets(Path(__file__).parent / "static", "offload.asset", "public")
    route = partial(blueprint.add_methods, _not_allowed)
    route("/jobs/<job_id>", "job", GET=resource.show, DELETE=resource.delete)
    route("/jobs/<job_id>/result", "result", GET=resource.result, POST=resource.post_to_result)
    route("/jobs/<job_id>/cancel", "cancel", POST=resource.cancel)
    route("/jobs/<job_id>/retry", "retry", POST=resource.retry)
    route("/openapi.json", "openapi", GET=_openapi)
    route("/assets/<digest>/<name>", "asset", GET=assets.send)
    _handle_errors(blueprint)
    blueprint.add_app_template_global(assets.url, "offload_asset")
    blueprint.add_app_template_global(partial(progress, offload), "offload_progress")
    blueprint.add_app_template_global(_new_key, "offload_idempotency_key")
    blueprint.add_app_template_filter(duration, "offload_duration")
    blueprint.add_app_template_filter(say, "offload_say")
    blueprint.add_app_template_global(language, "offload_language")
    blueprint.add_app_template_filter(sentence, "offload_sentence")
    return blueprint


def _not_allowed(detail: str) -> Response:
    return problem(405, detail)


def _handle_errors(blueprint: Blueprint) -> None:
    @blueprint.errorhandler(JobNotFound)
    def not_found(error: JobNotFound) -> Response:
        return problem(404, NO_SUCH_JOB)

    @blueprint.errorhandler(TooManyPolls)
    def too_many(error: TooManyPolls) -> Response:
        detail = f"Too many requests for this job: wait {error.seconds} s, as Retry-After says."
        return problem(429, detail, headers={"Retry-After": str(error.seconds)})

    @blueprint.errorhandler(InvalidTransition)
    def conflict(error: InvalidTransition) -> Response:
        return problem(409, f"{error}.")

    @blueprint.errorhandler(UnsupportedByEngine)
    def unsupported(error: UnsupportedByEngine) -> Response:
        return problem(501, "The engine that keeps this app's jobs can't do this.")

    @blueprint.errorhandler(EngineUnavailable)
    def unavailable(error: EngineUnavailable) -> Response:
        return problem(503, UNAVAILABLE, headers={"Retry-After": "5"})


def _openapi() -> Response:
    """The OpenAPI description of these addresses, with this app's prefix."""
    described = msgspec.json.decode((Path(__file__).parent / "openapi.json").read_bytes())
    prefix = request.script_root + request.path.removesuffix("/openapi.json")
    described["servers"] = [{"url": prefix}]
    return Response(msgspec.json.encode(described), mimetype="application/json")


def _new_key() -> str:
    """A new value for a form's hidden field `idempotency_key`."""
    return uuid.uuid4().hex
