"""Style sheets and scripts at addresses that change with their content."""

from __future__ import annotations

import functools
from hashlib import blake2b
from pathlib import Path

from flask import Response, url_for
from werkzeug.exceptions import NotFound

TYPES = {".js": "text/javascript", ".css": "text/css"}
YEAR = 365 * 24 * 3600


@functools.cache
def _read(path: Path) -> tuple[bytes, str]:
    """The content and its digest, read once per process."""
    content = path.read_bytes()
    return content, blake2b(content, digest_size=8).hexdigest()


class Assets:
    """The files of a folder. endpoint: of the address with `digest` and `name`. caching: "public",
    or "private" where they need access."""

    def __init__(self, folder: Path, endpoint: str, caching: str) -> None:
        self._endpoint = endpoint
        self._caching = caching
        self._paths = {path.name: path for path in folder.iterdir() if path.suffix in TYPES}

    def url(self, name: str) -> str:
        """The address of a file, which browsers may cache."""
        return url_for(self._endpoint, digest=_read(self._paths[name])[1], name=name)

    def send(self, digest: str, name: str) -> Response:
        """A file. Under the digest of another version it is not cached."""
        path = self._paths.get(name)
        if path is None:
            raise NotFound
        content, current = _read(path)
        response = Response(content, mimetype=TYPES[path.suffix])
        kept = f"{self._caching}, max-age={YEAR}, immutable"
        response.headers["Cache-Control"] = kept if digest == current else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.set_etag(current)
        return response
