"""What a client prefers: `Prefer` (RFC 7240) and, between JSON and a page, `Accept`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from werkzeug.datastructures import MIMEAccept

_LONGEST = 1000
"""Characters of the header that are read; a list of preferences is far shorter."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM = re.compile(rf'(?:{_QUOTED}|[^,"])+')
_PREFERENCE = re.compile(rf"\s*({_TOKEN})\s*(?:=\s*({_QUOTED}|{_TOKEN})?\s*)?(?:;.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of RFC 7240 that we know.

    respond_async: the client would rather have 202 than wait. wait: seconds that it will wait.
    """

    respond_async: bool = False
    wait: int | None = None

    @classmethod
    def parse(cls, header: str) -> Preferences:
        """Read `Prefer` (several headers joined by commas). As the RFC has it, what is unknown or
        makes no sense is ignored, and of a preference that is told twice the first counts."""
        told = _parse(header)
        wait = told.get("wait", "")
        digits = wait.isascii() and wait.isdigit()
        return cls("respond-async" in told, int(wait) if digits else None)


def _parse(header: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for item in _ITEM.findall(header[:_LONGEST]):
        match = _PREFERENCE.fullmatch(item)
        if match:
            name, value = match.groups(default="")
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            told.setdefault(name.lower(), value)
    return told


def prefers_html(accept: MIMEAccept) -> bool:
    """Whether the client would rather have a page than JSON, as browsers say when they navigate.

    Who has no opinion (no `Accept`, or `*/*`) gets JSON.
    """
    html = max(accept["text/html"], accept["application/xhtml+xml"])
    return bool(html > max(accept["application/json"], accept["application/problem+json"]))
