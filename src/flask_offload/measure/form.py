"""Form fields: from the command line, from a page, and encoded for a request."""

from __future__ import annotations

import mimetypes
import secrets
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urljoin

from ..errors import OffloadError


class BadField(OffloadError):
    """A form field is written NAME=VALUE, or NAME=@FILE to upload a file."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to upload in a form."""

    filename: str
    content_type: str
    content: bytes


Fields = tuple[tuple[str, str | Upload], ...]


def parse_field(text: str) -> tuple[str, str | Upload]:
    """Read NAME=VALUE or NAME=@FILE (curl's notation). Raises BadField."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadField(
            f"{text!r} is not a form field: write NAME=VALUE, or NAME=@FILE to upload a file"
        )
    if not value.startswith("@"):
        return name, value
    path = Path(value[1:])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadField(f"the file for form field {name!r} can't be read: {error}") from None
    guessed, _ = mimetypes.guess_type(path.name)
    return name, Upload(path.name, guessed or "application/octet-stream", content)


def encode(fields: Fields) -> tuple[bytes, str]:
    """The body and its Content-Type: urlencoded, or multipart (RFC 7578) if there is a file."""
    texts = [(name, value) for name, value in fields if isinstance(value, str)]
    if len(texts) == len(fields):
        return urlencode(texts).encode(), "application/x-www-form-urlencoded"
    boundary = secrets.token_hex(16)
    parts = [_part(name, value, boundary) for name, value in fields]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


def _part(name: str, value: str | Upload, boundary: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
    if isinstance(value, str):
        return f"{head}\r\n\r\n{value}\r\n".encode()
    head += f'; filename="{_quoted(value.filename)}"\r\nContent-Type: {value.content_type}\r\n\r\n'
    return head.encode() + value.content + b"\r\n"


def _quoted(text: str) -> str:
    """Escaped as browsers do it (HTML standard, multipart/form-data encoding)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def hidden_fields(html: str, page_url: str, action_url: str) -> dict[str, str]:
    """The hidden fields of the page's first form that posts to `action_url`; empty without one."""
    finder = _FormFinder(page_url, action_url)
    finder.feed(html)
    return finder.hidden


class _FormFinder(HTMLParser):
    def __init__(self, page_url: str, action_url: str) -> None:
        super().__init__()
        self.page_url = page_url
        self.action_url = action_url
        self.hidden: dict[str, str] = {}
        self._inside = False
        self._found = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and not self._found:
            action = urljoin(self.page_url, given.get("action", ""))
            posts = given.get("method", "get").lower() == "post"
            self._inside = self._found = posts and action == self.action_url
        elif tag == "input" and self._inside and given.get("type", "").lower() == "hidden":
            self.hidden.setdefault(given.get("name", ""), given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
