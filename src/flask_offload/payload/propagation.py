"""Context propagation: values of the request that are saved at enqueue and restored in the job.

Values are JSON. The built-in propagators save nothing unless the app uses their library.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Request, current_app, g, has_app_context, has_request_context, request, session
from flask.globals import app_ctx

from ..errors import PayloadError

Restore = Callable[[Any], AbstractContextManager[Any] | None]

_to_json = json.JSONEncoder(allow_nan=False).encode  # dumps() would make an encoder each time


class Propagator:
    """One propagated value: `save()` returns it as JSON in the request (None: nothing);
    the restoring function sets it in the job, and may return a context manager that is open while
    the job runs.
    """

    def __init__(self, name: str, save: Callable[[], Any], restore: Restore | None = None) -> None:
        self.name = name
        self.save = save
        self.restore_value = restore

    def restore(self, function: Restore) -> Restore:
        """Decorate the function that restores the value."""
        self.restore_value = function
        return function


def collect_context(propagators: Iterable[Propagator]) -> dict[str, Any]:
    """The values to propagate, by name."""
    saved = {}
    has_origin = has_request_context() or _of_this_job.get() is not None
    for propagator in propagators:
        if has_origin or propagator not in OF_ORIGIN:
            value = propagator.save()
            if value is not None:
                saved[propagator.name] = value
    return saved


def encode_context(saved: dict[str, Any]) -> str | None:
    """The values to propagate, as JSON; None without any. Raises PayloadError."""
    if not saved:
        return None
    try:
        return _to_json(saved)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"what @offload.carry saved can't be stored as JSON ({error}): {saved!r}."
            " Save an id instead of an object"
        ) from None


def load_context(text: str | None) -> dict[str, Any]:
    """The saved values, by name."""
    return json.loads(text) if text else {}


@contextlib.contextmanager
def restored_context(propagators: Iterable[Propagator], saved: dict[str, Any]) -> Iterator[None]:
    """Restore the saved values for the block, in an app context. The built-in ones also go to the
    jobs that are enqueued in it."""
    token = _of_this_job.set((_current_g(), saved))
    with ExitStack() as stack:
        stack.callback(_of_this_job.reset, token)
        for propagator in propagators:
            if propagator.name in saved and propagator.restore_value is not None:
                context = propagator.restore_value(saved[propagator.name])
                if context is not None:
                    stack.enter_context(context)
        yield


# --- built-in --- -----------------------------------------------------------------------------

_of_this_job: ContextVar[tuple[object, dict[str, Any]] | None] = ContextVar(
    "flask_offload_of_this_job", default=None
)
"""The saved values, and the `g` of the app context in which they hold. In `g` itself they would be
looked up at each enqueue, also where no job runs."""


def _of_job(name: str) -> Any:
    """The value with which the job that runs here was enqueued."""
    of_job = _of_this_job.get()
    if of_job is None or not has_app_context():
        return None
    context, saved = of_job
    return saved.get(name) if context is _current_g() else None


def _current_g() -> object:
    """The object behind `g`."""
    found: object = g._get_current_object()
    return found


def _save_request_id() -> str | None:
    if not has_request_context():
        return cast("str | None", _of_job("request_id"))
    return cast("str | None", request.environ.get("HTTP_X_REQUEST_ID"))


def _save_locale() -> str | None:
    if not has_request_context():
        return cast("str | None", _of_job("locale"))
    babel = sys.modules.get("flask_babel")
    if babel is None or "babel" not in current_app.extensions:
        return None
    locale = babel.get_locale()
    return None if locale is None else str(locale)


def _restore_locale(value: str) -> AbstractContextManager[Any]:
    import flask_babel

    held: AbstractContextManager[Any] = flask_babel.force_locale(value)
    return held


def _save_user() -> str | None:
    if not has_request_context():
        return cast("str | None", _of_job("user_id"))
    login = sys.modules.get("flask_login")
    if login is None or not hasattr(current_app, "login_manager"):
        return None
    if not login.current_user.is_authenticated or is_request_user():
        return None
    user_id: str = login.current_user.get_id()
    return user_id


def is_request_user() -> bool:
    """Whether flask_login has this request's user from a `request_loader`, as for an API key: the
    `user_loader` may know another user by the same id, so such a user can't be carried."""
    login = sys.modules.get("flask_login")
    if login is None or not has_request_context() or not hasattr(current_app, "login_manager"):
        return False
    user = login.current_user
    return bool(user.is_authenticated) and session.get("_user_id") != user.get_id()


def _restore_user(value: str) -> None:
    manager = getattr(current_app, "login_manager", None)
    load_user = getattr(manager, "_user_callback", None)
    if load_user is not None:
        g._login_user = load_user(value)  # where flask_login keeps the user


def let_current_user_work_in_tasks() -> None:
    """flask_login's `current_user` looks into `g` only inside a request context, and a task has
    none. Its getter is wrapped once; inside of requests it is flask_login's own."""
    login = sys.modules.get("flask_login")
    if login is None or getattr(login.utils._get_user, "is_of_flask_offload", False):
        return
    original = login.utils._get_user

    def get_user() -> Any:
        manager = getattr(current_app, "login_manager", None) if has_app_context() else None
        if manager is None or has_request_context():
            return original()
        return g.get("_login_user") or manager.anonymous_user()

    get_user.is_of_flask_offload = True  # type: ignore[attr-defined]
    login.utils._get_user = get_user


def _save_trace() -> dict[str, str] | None:
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier or None


@contextlib.contextmanager
def _restore_trace(value: dict[str, str]) -> Iterator[None]:
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(value))
    try:
        yield
    finally:
        context.detach(token)


def _save_base_url() -> str | None:
    """The address of the app, as the request has it."""
    if not has_request_context():
        return cast("str | None", _of_job("_base_url"))
    here: Request = request._get_current_object()  # type: ignore[attr-defined]
    if not here.host:  # the header can't be used
        return None
    return f"{here.scheme}://{here.host}{here.environ.get('SCRIPT_NAME', '')}"


@contextlib.contextmanager
def _restore_base_url(value: str) -> Iterator[None]:
    """Let `url_for` build addresses like those of the request, where Flask would need
    SERVER_NAME."""
    parts = urlsplit(value)
    environ = {
        "wsgi.url_scheme": parts.scheme,
        "HTTP_HOST": parts.netloc,
        "SCRIPT_NAME": parts.path,
        "PATH_INFO": "/",
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": parts.hostname or "",
        "SERVER_PORT": str(parts.port or (443 if parts.scheme == "https" else 80)),
    }
    context = app_ctx._get_current_object()  # type: ignore[attr-defined]
    before = context.url_adapter
    context.url_adapter = current_app.create_url_adapter(current_app.request_class(environ))
    try:
        yield
    finally:
        context.url_adapter = before


OF_ORIGIN = (
    Propagator("_base_url", _save_base_url, _restore_base_url),
    Propagator("request_id", _save_request_id),
    Propagator("locale", _save_locale, _restore_locale),
    Propagator("user_id", _save_user, _restore_user),
)
"""They save something only where a request is handled or a job runs."""
BUILT_IN = (*OF_ORIGIN, Propagator("trace", _save_trace, _restore_trace))
