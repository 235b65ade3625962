"""A request stored as the arguments of a job, and the view's response stored as its result."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

from flask import Flask, Response, current_app, g, request, session
from werkzeug.datastructures import FileStorage, Headers, ImmutableMultiDict

from ..errors import Discard, JobCancelled, JobTimeout, PayloadTooLarge, Retry
from ..payload.spool import show_bytes

ENVIRON = frozenset(
    {
        "CONTENT_TYPE",
        "HTTP_HOST",
        "PATH_INFO",
        "QUERY_STRING",
        "REMOTE_ADDR",
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "wsgi.url_scheme",
    }
)
"""The WSGI variables of the request line, the client's address and the type of the body."""

HEADERS = (
    "Accept",
    "Accept-Language",
    "HX-Boosted",
    "HX-Current-URL",
    "HX-Request",
    "HX-Target",
    "HX-Trigger",
    "User-Agent",
    "X-Request-ID",
    "X-Requested-With",
)
"""The headers that are stored. Others, `Authorization` and `Cookie` above all, may be secrets and
are stored only if the view names them."""

MULTIPART = "multipart/form-data"
FORMS = ("application/x-www-form-urlencoded", MULTIPART)

DROPPED = frozenset(
    # of this connection and this time; the replay has its own
    {"connection", "content-length", "date", "keep-alive", "server", "server-timing"}
    | {"trailer", "transfer-encoding", "upgrade", "cache-control", "expires", "pragma"}
    | {"set-cookie"}  # it would be sent to every client that reads the result, each time
)

CONTROL = (Discard, JobCancelled, JobTimeout, Retry)
"""Exceptions that control a job; an app's handler for all exceptions must not get them."""


@dataclass(frozen=True)
class RequestSnapshot:
    """What a view can see of its request. session: the session keys that are stored.

    body: text if it is UTF-8, which takes less space than bytes. form, files: instead of a body,
    if the form has been parsed already, or has files.
    """

    environ: dict[str, str]
    body: str | bytes
    form: list[tuple[str, str]] | None
    files: list[tuple[str, FileStorage]]
    session: dict[str, Any]
    csrf_valid: bool


@dataclass(frozen=True)
class ResponseSnapshot:
    """A view's response; `body` as in RequestSnapshot. cookies: names of those that were dropped.

    url: path and query of the request.
    """

    url: str
    status: int
    headers: list[tuple[str, str]]
    body: str | bytes
    cookies: list[str]

    def replay(self) -> Response:
        """The response. It belongs to one client, so it must not be cached."""
        response = Response(self.body, self.status, Headers(self.headers))
        response.headers["Cache-Control"] = "no-store"
        response.headers.setdefault("Referrer-Policy", "same-origin")
        return response


# --- before the job ----------------------------------------------------------------------------


def snapshot_request(
    headers: Iterable[str] = (), session_keys: Iterable[str] = (), *, limit: int
) -> RequestSnapshot:
    """The current request as data. limit: bytes of a body without files; a larger one is not even
    read. Raises PayloadTooLarge.

    headers: names of headers to store beside HEADERS. session_keys: session keys that the view
    reads; it can't change them. The key of Flask-WTF's token is always stored, so that forms can
    be validated and rendered again.
    """
    wanted = {f"HTTP_{name.upper().replace('-', '_')}" for name in (*HEADERS, *headers)} | ENVIRON
    environ = {
        key: value
        for key, value in request.environ.items()
        if key in wanted and isinstance(value, str)
    }
    # the body first: the form is parsed from it, and it can't be rebuilt from the form
    is_multipart = request.mimetype == MULTIPART
    length = request.content_length or 0
    if length > limit and not is_multipart:
        most = f"of {show_bytes(limit)} at most (OFFLOAD_MAX_PAYLOAD)"
        raise PayloadTooLarge(f"its body has {show_bytes(length)}, {most}")
    body = b"" if is_multipart else _read_body(limit)
    is_form = request.mimetype in FORMS and not body
    token = current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token")
    return RequestSnapshot(
        environ=environ,
        body=_shortest(body),
        form=list(request.form.items(multi=True)) if is_form else None,
        files=list(request.files.items(multi=True)) if is_form else [],
        session={key: session[key] for key in (token, *session_keys) if key in session},
        csrf_valid=bool(g.get("csrf_valid", False)),
    )


def _read_body(limit: int) -> bytes:
    """The body. One that does not say how long it is is read up to the limit."""
    if request.content_length is not None:
        return request.get_data()
    body = request.stream.read(limit + 1)
    if len(body) > limit:
        most = f"of {show_bytes(limit)} at most (OFFLOAD_MAX_PAYLOAD)"
        raise PayloadTooLarge(f"its body is longer than one {most}")
    return body


# --- in the job --------------------------------------------------------------------------------


def run_view(
    snapshot: RequestSnapshot, view: Callable[..., Any], values: dict[str, Any], limit: int
) -> ResponseSnapshot:
    """Run the view with the stored request as the current one, and store its response.

    `before_request` and `after_request` functions are not run: they run in the web process, for the
    request and when the result is fetched. values: the view's keyword arguments. limit: bytes of
    the body. Raises PayloadTooLarge, and what the view raises unless an error handler of the app
    handles it.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    with _context(app, snapshot):
        try:
            returned = app.ensure_sync(view)(**values)
        except CONTROL:
            raise
        except Exception as error:
            returned = app.handle_user_exception(error)
        return snapshot_response(app.make_response(returned), limit)


@contextmanager
def _context(app: Flask, snapshot: RequestSnapshot) -> Iterator[None]:
    """A request context with the same request and the propagated values."""
    body = snapshot.body.encode() if isinstance(snapshot.body, str) else snapshot.body
    environ: dict[str, Any] = {
        **snapshot.environ,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(body),
        "wsgi.multiprocess": True,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }
    propagated = {name: g.get(name) for name in g}
    with app.request_context(environ):
        for name, value in propagated.items():  # `g` may be another one in here
            setattr(g, name, value)
        if snapshot.csrf_valid:
            g.csrf_valid = True  # set by Flask-WTF for a validated request
        if snapshot.form is not None:
            request.form = ImmutableMultiDict(snapshot.form)
            request.files = ImmutableMultiDict(snapshot.files)
        for key, value in snapshot.session.items():
            session[key] = value
        session.modified = False
        _preprocess_values(app)
        yield


def _preprocess_values(app: Flask) -> None:
    """Run `@app.url_value_preprocessor`, which may set `g` from the path (a language, a tenant)."""
    for name in (None, *reversed(request.blueprints)):
        for function in app.url_value_preprocessors.get(name, ()):
            function(request.endpoint, request.view_args)


def snapshot_response(response: Response, limit: int) -> ResponseSnapshot:
    """A response as data, streams read to their end. limit: bytes. Raises PayloadTooLarge."""
    response.direct_passthrough = False
    body = bytearray()
    try:
        for chunk in response.iter_encoded():
            body += chunk
            if len(body) > limit:
                raise PayloadTooLarge(
                    f"the view's response takes more than {limit} bytes (OFFLOAD_MAX_PAYLOAD):"
                    " store it, and redirect to it"
                )
    finally:
        response.close()
    query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
    # one slash: what begins with two is the address of another host
    url = "/" + quote(request.script_root + request.path).lstrip("/") + query
    for name in ("Location", "Content-Location"):
        if response.headers.get(name):
            # relative to the request, not to the address of the result
            response.headers[name] = urljoin(url, response.headers[name])
    headers = [(key, value) for key, value in response.headers if key.lower() not in DROPPED]
    cookies = [text.partition("=")[0] for text in response.headers.getlist("Set-Cookie")]
    if session.modified:
        cookies.append(current_app.config["SESSION_COOKIE_NAME"])
    return ResponseSnapshot(url, response.status_code, headers, _shortest(bytes(body)), cookies)


def _shortest(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body
