"""`@offload.respond_async`: run a view as a job when its client prefers not to wait."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flask import Response, current_app, request

from ..errors import (
    EngineUnavailable,
    OptionError,
    PayloadTooLarge,
    WaitTimeout,
)
from ..jobs import log
from ..jobs.context import current_job
from ..jobs.job import Job, JobStatus
from ..jobs.new_job import NewJob
from ..payload.propagation import is_request_user
from ..state import AppRegistry
from ..tasks.names import task_name
from ..tasks.task import Task
from .accepted import accepted_json, see_job
from .idempotency import REMEMBERED, BadKey, client_digest, idempotency_key
from .preferences import Preferences, prefers_html
from .problems import problem
from .replies import reply
from .representation import RESPOND_ASYNC
from .request_snapshot import RequestSnapshot, ResponseSnapshot, run_view, snapshot_request

MAX_WAIT = 10.0
"""Seconds for which a request is held at most, unless `wait=` is given: a held request occupies a
worker of the web server, which respond_async is there to avoid."""

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


def respond_async(
    offload: AppRegistry,
    view: Callable[..., Any],
    *,
    wait: float | None = None,
    always: bool | Iterable[str] = False,
    headers: Iterable[str] = (),
    session: Iterable[str] = (),
    owner: Callable[[], str | None] | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """The view, decorated. The other options are those of `@offload.task`. Raises OptionError."""
    if wait is not None and (isinstance(wait, bool) or not 0 <= wait <= 3600):
        raise OptionError(f"wait={wait!r} can't be used: it takes seconds from 0 to 3600, or None.")

    _refuse_method(view)
    methods = _methods(always)
    name = options.pop("name", None) or _name_of(view)
    task = offload.task(name=name, **options)(_ViewTask(offload, view))
    moved = _AsyncView(offload, task, wait, methods, tuple(headers), tuple(session), owner)

    @functools.wraps(view)
    def respond(*args: Any, **values: Any) -> Response:
        preferences = Preferences.parse(request.headers.get("Prefer", ""))
        if moved.applies(preferences):
            response = moved.respond(preferences, _by_name(view, args, values))
        else:
            answered = current_app.ensure_sync(view)(*args, **values)
            response = current_app.make_response(answered)
        response.vary.add("Prefer")
        return response

    return respond


@dataclass(frozen=True, slots=True)
class _AsyncView:
    """A view that may run as a job, and its options.

    wait: seconds for which the request is held for a quick result, at most, even if the client's
    `wait=N` asks for more. None: only when the client asks, up to MAX_WAIT.
    always: the methods that become jobs without the header too, for browsers above all.
    headers, session: names of further headers and session keys that are stored.
    owner: called in the request, returns whom the job belongs to, for `authorize`.
    """

    offload: AppRegistry
    task: Task[Any, Any]
    wait: float | None
    always: frozenset[str]
    headers: tuple[str, ...]
    session: tuple[str, ...]
    owner: Callable[[], str | None] | None

    def applies(self, preferences: Preferences) -> bool:
        """Whether this request becomes a job."""
        wanted = preferences.respond_async and request.method not in ("HEAD", "OPTIONS")
        if not (wanted or request.method in self.always):
            return False
        if is_request_user():  # it would run as another user, or as none
            message = "%s runs in the request: its user comes from a request_loader of flask_login"
            log.write(logging.WARNING, "user_not_carried", message, self.task.name)
            return False
        return True

    def respond(self, preferences: Preferences, values: dict[str, Any]) -> Response:
        """Enqueue the job; respond with its result if it ends in time, else with its address."""
        try:
            job = self._enqueue(values)
        except BadKey as error:
            return problem(error.status, str(error))
        except PayloadTooLarge as error:
            return problem(413, f"The request is too large to be stored: {error}.")
        except EngineUnavailable:
            return problem(
                503,
                "The work can't be accepted at the moment. Nothing was done; try again soon.",
                headers={"Retry-After": "5"},
            )
        response = self._response(job, preferences)
        applied = ["respond-async"] if preferences.respond_async else []
        if preferences.wait is not None:
            applied.append(f"wait={min(preferences.wait, int(self._most()))}")
        if applied:
            response.headers["Preference-Applied"] = ", ".join(applied)
        return response

    def _enqueue(self, values: dict[str, Any]) -> Job:
        owner = None if self.owner is None else self.owner()
        limit = self.offload.current_state().config.max_payload
        snapshot = snapshot_request(self.headers, self.session, limit=limit)
        unique = self.offload.engine.flags.unique
        call = self.task.call(snapshot, values)
        new_job: NewJob = call.new_job
        key = (
            idempotency_key(
                *(self.task.name, owner, snapshot), context=new_job.context, headers=self.headers
            )
            if unique
            else None
        )
        new_job.origin = RESPOND_ASYNC
        new_job.owner = owner
        if key is not None:
            new_job.id = key.new_id()
            new_job.unique_key = key.unique
            new_job.unique_for = REMEMBERED
            new_job.unique_states = frozenset(JobStatus)
        elif new_job.unique_key is not None and self.task.options.unique is True:
            # the same arguments are the same request, but its response may be for one client
            client = client_digest(owner, context=new_job.context, headers=self.headers)
            new_job.unique_key += f":{client}"
        job = self.offload.enqueue_many([call])[0]
        if key is not None and not (key.fits(job.id) and self._may_see(job)):
            raise BadKey("This Idempotency-Key was used before, with another request.", 422)
        return job

    def _response(self, job: Job, preferences: Preferences) -> Response:
        hold = self._hold(preferences)
        if hold and not job.is_finished:
            with contextlib.suppress(WaitTimeout, EngineUnavailable):
                job.wait(hold)
        browser = prefers_html(request.accept_mimetypes) and not preferences.respond_async
        if (
            self._may_see(job)
            and job.is_finished
            and (job.status is JobStatus.SUCCESSFUL or not browser)
        ):
            return reply(self.offload, job.refresh())
        response = see_job(job) if browser else accepted_json(self.offload, job)
        response.vary.add("Accept")
        return response

    def _may_see(self, job: Job) -> bool:
        """Whether the app's `authorize` lets this client see the job."""
        authorizer = self.offload.authorizer
        return authorizer is None or authorizer(job)

    def _hold(self, preferences: Preferences) -> float:
        asked = preferences.wait if preferences.wait is not None else self.wait or 0.0
        return min(asked, self._most())

    def _most(self) -> float:
        """Seconds for which a request can be held."""
        return MAX_WAIT if self.wait is None else self.wait


def _methods(always: bool | Iterable[str]) -> frozenset[str]:
    """Check and convert `always=`: True for all methods, or some names. Raises OptionError."""
    if isinstance(always, bool):
        return METHODS if always else frozenset()
    names = frozenset([always] if isinstance(always, str) else always)
    if not names <= METHODS:
        known = ", ".join(sorted(METHODS))
        raise OptionError(f"always={always!r} can't be used: it takes True, or some of {known}.")
    return names


def _by_name(
    view: Callable[..., Any], args: tuple[Any, ...], values: dict[str, Any]
) -> dict[str, Any]:
    """The view's arguments, all by name, as they are stored. Flask passes them by name; a decorator
    of the app above this one may not."""
    return dict(inspect.signature(view).bind(*args, **values).arguments) if args else values


def _refuse_method(view: Callable[..., Any]) -> None:
    """Raise OptionError for a method of a class, whose object can't be carried into a job."""
    try:
        first = next(iter(inspect.signature(view).parameters), None)
    except (TypeError, ValueError):  # a built-in without a signature
        return
    if first in ("self", "cls"):
        raise OptionError(
            f"{getattr(view, '__qualname__', view)} is a method: in a MethodView or View write"
            " decorators = [offload.respond_async] in the class instead of decorating the method."
        )


def _name_of(view: Callable[..., Any]) -> str:
    """The task's name. Class-based views differ only in `__name__`, not in the qualified name."""
    name = task_name(view)
    if name.endswith(f".{view.__name__}"):
        return name
    return name.removesuffix(view.__qualname__) + view.__name__


class _ViewTask:
    """The function of the task that runs `view`."""

    __slots__ = ("_offload", "_view")

    def __init__(self, offload: AppRegistry, view: Callable[..., Any]) -> None:
        self._offload = offload
        self._view = view

    @property
    def __code__(self) -> Any:
        """The view's, to distinguish two views of one name from one view declared twice."""
        return getattr(self._view, "__code__", self._view)

    def __call__(self, snapshot: RequestSnapshot, values: dict[str, Any]) -> ResponseSnapshot:
        limit = self._offload.current_state().config.max_payload
        response = run_view(snapshot, self._view, values, limit)
        if response.cookies:
            log.write(
                logging.WARNING,
                "cookies_lost",
                "%s of %s: the view set the cookies %s, which are not part of the result",
                current_job.id,
                current_job.task,
                ", ".join(sorted(set(response.cookies))),
                job_id=current_job.id,
                task=current_job.task,
                attempt=current_job.attempt,
            )
        return response
