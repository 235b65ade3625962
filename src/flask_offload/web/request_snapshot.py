"""A request on its way into a job, and the response that comes out of it, as plain data."""

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
"""The parts of a WSGI environment that make up a request's line, address and kind of body."""

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
    # of this connection and this moment; the replay has its own
    {"connection", "content-length", "date", "keep-alive", "server", "server-timing"}
    | {"trailer", "transfer-encoding", "upgrade", "cache-control", "expires", "pragma"}
    | {"set-cookie"}  # it would be given to whoever asks, again and again: see docs/http.md
)

CONTROL = (Discard, JobCancelled, JobTimeout, Retry)
"""What steers a job; an app's handler for all exceptions must not make a page of it."""


@dataclass(frozen=True)
class RequestSnapshot:
    """What a view can see of its request. session: the keys that are carried, see
    `snapshot_request`.

    body: text where it is UTF-8, which takes less room than bytes. form, files: instead of a body,
    where something has read the form already, or where it brings files.
    """

    environ: dict[str, str]
    body: str | bytes
    form: list[tuple[str, str]] | None
    files: list[tuple[str, FileStorage]]
    session: dict[str, Any]
    csrf_valid: bool


@dataclass(frozen=True)
class ResponseSnapshot:
    """What a view answered; `body` as in RequestSnapshot. cookies: names of those that were lost.

    url: path and query of what was asked for.
    """

    url: str
    status: int
    headers: list[tuple[str, str]]
    body: str | bytes
    cookies: list[str]

    def replay(self) -> Response:
        """The response once more. It belongs to one client, so no cache may keep it."""
        response = Response(self.body, self.status, Headers(self.headers))
        response.headers["Cache-Control"] = "no-store"
        response.headers.setdefault("Referrer-Policy", "same-origin")
        return response


# --- before the job ----------------------------------------------------------------------------


def snapshot_request(
    headers: Iterable[str] = (), session_keys: Iterable[str] = (), *, limit: int
) -> RequestSnapshot:
    """The current request as data. limit: bytes of a body that brings no files; a larger one is not
    even read. Raises PayloadTooLarge.

    headers: names of headers to store beside HEADERS. session_keys: what of the session the view
    needs; it can read, not change it. The key under which Flask-WTF keeps its token is always
    taken along, so that forms can be checked and shown again.
    """
    wanted = {f"HTTP_{name.upper().replace('-', '_')}" for name in (*HEADERS, *headers)} | ENVIRON
    environ = {
        key: value
        for key, value in request.environ.items()
        if key in wanted and isinstance(value, str)
    }
    # the body comes first: a form is made from it, but of a form nothing leads back to it
    is_multipart = request.mimetype == MULTIPART
    length = request.content_length or 0
    if length > limit and not is_multipart:
        most = f"of {show_bytes(limit)} at most (OFFLOAD_MAX_PAYLOAD)"
        raise PayloadTooLarge(f"its body has {show_bytes(length)}, {most}")
    body = b"" if is_multipart else request.get_data()
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


# --- in the job --------------------------------------------------------------------------------


def answer(
    stored: RequestSnapshot, view: Callable[..., Any], values: dict[str, Any], limit: int
) -> ResponseSnapshot:
    """Run the view as if the stored request had just come, and keep what it answers.

    The functions before and after requests are not run: they are, in the web process, when the
    request comes and when the result is fetched. values: the view's keyword arguments.
    limit: bytes of the body. Raises PayloadTooLarge, and what the view raises if no error handler
    of the app takes it.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    with _context(app, stored):
        try:
            answered = app.ensure_sync(view)(**values)
        except CONTROL:
            raise
        except Exception as error:
            answered = app.handle_user_exception(error)
        return snapshot_response(app.make_response(answered), limit)


@contextmanager
def _context(app: Flask, stored: RequestSnapshot) -> Iterator[None]:
    """An equivalent request context: the same request, the carried values, nothing else."""
    body = stored.body.encode() if isinstance(stored.body, str) else stored.body
    environ: dict[str, Any] = {
        **stored.environ,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(body),
        "wsgi.multiprocess": True,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }
    carried = {name: g.get(name) for name in g}
    with app.request_context(environ):
        for name, value in carried.items():  # `g` may be another one in here
            setattr(g, name, value)
        if stored.csrf_valid:
            g.csrf_valid = True  # where Flask-WTF notes that the request was checked
        if stored.form is not None:
            request.form = ImmutableMultiDict(stored.form)
            request.files = ImmutableMultiDict(stored.files)
        for key, value in stored.session.items():
            session[key] = value
        session.modified = False
        _preprocess_values(app)
        yield


def _preprocess_values(app: Flask) -> None:
    """What `@app.url_value_preprocessor` is for: a language or a tenant from the path into `g`."""
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
                    " store it, and answer with a redirect to it"
                )
    finally:
        response.close()
    if response.location:
        # relative to what was asked for, not to where the result lies
        response.headers["Location"] = urljoin(request.path, response.location)
    headers = [(key, value) for key, value in response.headers if key.lower() not in DROPPED]
    cookies = [text.partition("=")[0] for text in response.headers.getlist("Set-Cookie")]
    if session.modified:
        cookies.append(current_app.config["SESSION_COOKIE_NAME"])
    query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
    url = quote(request.script_root + request.path) + query
    return ResponseSnapshot(url, response.status_code, headers, _shortest(bytes(body)), cookies)


def _shortest(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body
