"""`GET /offload/health` for load balancers and monitors."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from flask import Response

from ..engines.base import JobQuery
from ..errors import EngineUnavailable
from ..state import AppRegistry
from ..textui import duration
from .access import access


def health(offload: AppRegistry) -> Response:
    """200, or 503 with what is wrong; the reasons are for those with access to the dashboard."""
    problems = _problems(offload)
    document: dict[str, Any] = {"status": "unavailable" if problems else "ok"}
    if access(offload) is not None:
        document["problems"] = problems
    status = 503 if problems else 200
    headers = {"Cache-Control": "no-store"}
    data = msgspec.json.encode(document)
    return Response(data, status, mimetype="application/json", headers=headers)


def _problems(offload: AppRegistry) -> list[str]:
    state = offload.current_state()
    engine, config = state.engine, state.config
    problems = []
    try:
        if engine.flags.own_worker:
            if config.worker == "off" and not engine.workers():
                problems.append("no worker is alive: start `flask offload worker`")
        elif engine.flags.lists:
            engine.list(JobQuery(limit=1))
        since = engine.waiting_since()
    except EngineUnavailable as error:
        return [f"the engine can't be reached: {error}"]
    waited = 0.0 if since is None else time.time() - since
    if waited > config.health_max_wait:
        problems.append(
            f"the first job in line has waited {duration(waited)}, longer than"
            f" OFFLOAD_HEALTH_MAX_WAIT ({duration(config.health_max_wait)})"
        )
    return problems
