"""What a visitor with full access can do. Each action is logged, and sent as a signal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from flask import abort, current_app, redirect, request, url_for
from werkzeug.wrappers import Response

from .. import signals
from ..errors import InvalidTransition
from ..jobs import log
from ..state import AppRegistry
from .schedules import known_schedules


class Actions:
    """The handlers of POST; the gate has checked access and token."""

    def __init__(self, offload: AppRegistry) -> None:
        self._offload = offload

    def on_job(self, job_id: str) -> Response:
        """retry, cancel, force or discard. Raises JobNotFound, InvalidTransition and
        UnsupportedByEngine."""
        action = request.form.get("action", "")
        job = self._offload.get_job(job_id)
        if action == "retry":
            job.retry()
        elif action in ("cancel", "force"):
            job.cancel(force=action == "force")
        elif action == "discard":
            if not self._offload.engine.discard_many([job.id]):
                raise InvalidTransition(f"job {job.id} is {job.status}: cancel it first")
            record_action(action, [job.id])
            return _back("jobs", action)
        else:
            abort(400)
        record_action(action, [job.id])
        return _back("job", action, job_id=job.id)

    def on_queue(self) -> Response:
        """pause or resume the queue `name`."""
        action, name = request.form.get("action", ""), request.form.get("name", "")
        engine = self._offload.engine
        if name not in {queue.name for queue in engine.queues()}:
            abort(400)
        if action == "pause":
            engine.pause(name)
        elif action == "resume":
            engine.resume(name)
        else:
            abort(400)
        record_action(action, f"queue={name}")
        return _back("queues", action)

    def on_schedule(self) -> Response:
        """run: enqueue a job of the schedule `name` now. disable or enable it."""
        action, name = request.form.get("action", ""), request.form.get("name", "")
        state = self._offload.current_state()
        known = {info.name: info for info in known_schedules(state)}
        if name not in known:
            abort(400)
        if action == "disable":
            state.engine.disable_schedule(known[name])
        elif action == "enable":
            state.engine.enable_schedule(name)
        elif action == "run" and name in self._offload.schedules:
            _, task = self._offload.schedules[name]
            job = task.enqueue()
            record_action(action, [job.id])
            return _back("schedules", action)
        else:
            abort(400)
        record_action(action, f"schedule={name}")
        return _back("schedules", action)

    def on_worker(self) -> Response:
        """stop: ask the worker `name` to stop."""
        action, name = request.form.get("action", ""), request.form.get("name", "")
        engine = self._offload.engine
        if action != "stop" or name not in {worker.id for worker in engine.workers()}:
            abort(400)
        engine.stop_worker(name)
        record_action(action, f"worker={name}")
        return _back("workers", action)


def record_action(what: str, jobs: Sequence[str]) -> None:
    """Log an action and send the signal. jobs: ids, or a text that says which."""
    who = _visitor()
    which = jobs if isinstance(jobs, str) else ", ".join(jobs)
    message = "dashboard: %s by %s: %s"
    values = (what, who, which)
    log.write(logging.INFO, "dashboard_action", message, *values, who=who, what=what, jobs=jobs)
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    signals.send(signals.action, app, who=who, what=what, jobs=jobs)


def _visitor() -> str:
    """flask_login's user, or else the address."""
    login = sys.modules.get("flask_login")
    has_login = login is not None and hasattr(current_app, "login_manager")
    if login is not None and has_login and login.current_user.is_authenticated:
        return str(login.current_user.get_id())
    return request.remote_addr or "unknown"


def _back(endpoint: str, action: str, **values: Any) -> Response:
    """To the page again, which says what was done."""
    return redirect(url_for(f"offload_dashboard.{endpoint}", done=action, **values), 303)
