"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated request is one job.

The key becomes the job's unique key, bound to the view and the client. A key that is reused for
another request is detected by the job's id, whose end is a digest of the request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO

from flask import request, session

from ..payload.propagation import load_context
from .request_snapshot import FORMS, RequestSnapshot

HEADER, FIELD = "Idempotency-Key", "idempotency_key"
"""Where the key is read: from a header, or for plain HTML forms from a field."""

MAX_KEY = 255
PASSING = frozenset({"_flashes", "_fresh", "_id", "csrf_token"})
"""Session keys that change between two requests of the same client."""
OF_REQUEST = frozenset({"request_id", "trace", "locale"})
"""The same of carried values."""
REMEMBERED = 24 * 3600.0
"""Seconds after which the same key makes a new job."""

_RANDOM, _DIGEST = 12, 4
"""Bytes of a job's id. 96 random bits can't be guessed; for the digest 32 bits are enough, because
a collision affects only the client that made it."""


class BadKey(Exception):
    """The key can't be used; the message says why. status: of the response."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key of a request. unique: for the engine. digest: of the request, in hex."""

    unique: str
    digest: str

    def new_id(self) -> str:
        """A job id like those of `flask_offload.jobs.job.new_id`, with the digest at its end."""
        return f"{time.time_ns() // 1_000_000:012x}{os.urandom(_RANDOM).hex()}{self.digest}"

    def fits(self, job_id: str) -> bool:
        """Whether the job was made for the same request."""
        return job_id.endswith(self.digest)


def idempotency_key(
    task: str,
    owner: str | None,
    snapshot: RequestSnapshot,
    *,
    context: str | None = None,
    headers: Iterable[str] = (),
) -> IdempotencyKey | None:
    """The key of the current request, if it has one. Raises BadKey.

    It belongs to the client, see `client_digest`.
    """
    key = request.headers.get(HEADER) or request.form.get(FIELD)
    if not key:
        return None
    if len(key) > MAX_KEY:
        raise BadKey(f"The {HEADER} has more than {MAX_KEY} characters: send a UUID.")
    client = client_digest(owner, context=context, headers=headers)
    unique = _digest((task, key, client), 16)
    return IdempotencyKey(f"idempotency:{unique}", _fingerprint(snapshot))


def client_digest(
    owner: str | None, *, context: str | None = None, headers: Iterable[str] = ()
) -> str:
    """Who sends the current request, as a digest.

    It has `owner`, as the view's `owner=` returned it; what the request says of its user
    (`Authorization`, REMOTE_USER, the session); the values that are carried into the job
    (`context`); the `headers` that the view reads; and the host and the prefix.
    """
    asks = (
        *(owner or "", request.host, request.script_root),
        *(request.headers.get("Authorization", ""), request.remote_user or ""),
        *(request.headers.get(name, "") for name in headers),
        *(repr(pair) for pair in sorted(_carried(context).items())),
        *(f"{name}={value!r}" for name, value in sorted(session.items()) if name not in PASSING),
    )
    return _digest(asks, 16)


def _carried(context: str | None) -> dict[str, object]:
    """The carried values that say who asks, and not which request it is."""
    found = load_context(context) if context else {}
    return {name: value for name, value in found.items() if name not in OF_REQUEST}


def _fingerprint(snapshot: RequestSnapshot) -> str:
    """The same text for the same request; a new CSRF token does not count."""
    environ = snapshot.environ
    parts = [environ.get(key, "") for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")]
    if request.mimetype in FORMS:
        form = request.form.items(multi=True)
        parts += [repr(pair) for pair in form if "csrf_token" not in pair[0]]
    else:
        parts.append(repr(snapshot.body))
    for name, file in snapshot.files:
        parts += [name, file.filename or "", _digest_of_file(file.stream)]
    return _digest(tuple(parts), _DIGEST)


def _digest(parts: tuple[str, ...], size: int) -> str:
    return blake2b(repr(parts).encode(), digest_size=size).hexdigest()


def _digest_of_file(stream: object) -> str:
    file: BinaryIO = stream  # type: ignore[assignment]
    digest = blake2b(digest_size=16)
    while chunk := file.read(256 * 1024):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()
