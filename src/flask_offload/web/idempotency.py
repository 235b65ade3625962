"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated request is one job.

The key becomes the job's unique key, bound to the view and to who asks. That a key comes back with
another request is seen from the job's id, whose end is a digest of the request it was made for.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO

from flask import request

from .request_snapshot import FORMS, RequestSnapshot

HEADER, FIELD = "Idempotency-Key", "idempotency_key"
"""Where the key is looked for: in a header, or for plain HTML forms in a field."""

MAX_KEY = 255
REMEMBERED = 24 * 3600.0
"""Seconds after which the same key makes a new job."""

_RANDOM, _DIGEST = 12, 4
"""Bytes of a job's id. 96 random bits are beyond guessing; of the digest 32 bits will do, because
who finds two requests with the same one has only fooled himself."""


class BadKey(Exception):
    """The key can't be used; the message says why. status: of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key that came with a request. unique: for the engine. digest: of the request, in hex."""

    unique: str
    digest: str

    def new_id(self) -> str:
        """A job id as `flask_offload.jobs.job.new_id` makes it, but with the digest at its end."""
        return f"{time.time_ns() // 1_000_000:012x}{os.urandom(_RANDOM).hex()}{self.digest}"

    def fits(self, job_id: str) -> bool:
        """Whether the job was made for the same request."""
        return job_id.endswith(self.digest)


def idempotency_key(task: str, owner: str | None, stored: RequestSnapshot) -> IdempotencyKey | None:
    """The key of the current request, if it has one. Raises BadKey.

    owner: who asks, as far as the view says so. `Authorization` counts too, without being stored.
    """
    key = request.headers.get(HEADER) or request.form.get(FIELD)
    if not key:
        return None
    if len(key) > MAX_KEY:
        raise BadKey(f"The {HEADER} has more than {MAX_KEY} characters: send a UUID.")
    asks = (task, owner or "", request.headers.get("Authorization", ""), key)
    return IdempotencyKey(f"idempotency:{_digest(asks, 16)}", _fingerprint(stored))


def _fingerprint(stored: RequestSnapshot) -> str:
    """The same for the same request, as it is stored; a fresh CSRF token does not count."""
    environ = stored.environ
    parts = [environ.get(key, "") for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")]
    if request.mimetype in FORMS:
        form = request.form.items(multi=True)
        parts += [repr(pair) for pair in form if "csrf_token" not in pair[0]]
    else:
        parts.append(repr(stored.body))
    for name, file in stored.files:
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
