"""Client preferences: `Prefer` (RFC 7240) and, between JSON and a page, `Accept`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from werkzeug.datastructures import MIMEAccept

_LONGEST = 1000
"""Characters of the header that are read; real ones are far shorter."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM = re.compile(rf'(?:{_QUOTED}|[^,"])+')
_PREFERENCE = re.compile(rf"\s*({_TOKEN})\s*(?:=\s*({_QUOTED}|{_TOKEN})?\s*)?(?:;.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of RFC 7240 that are supported.

    respond_async: the client prefers 202 to waiting. wait: seconds that it will wait.
    """

    respond_async: bool = False
    wait: int | None = None

    @classmethod
    def parse(cls, header: str) -> Preferences:
        """Read `Prefer` (several headers joined by commas). As in the RFC, unknown and invalid
        preferences are ignored, and of a preference that is given twice the first counts."""
        found = _parse(header)
        wait = found.get("wait", "")
        digits = wait.isascii() and wait.isdigit()
        return cls("respond-async" in found, int(wait) if digits else None)


def _parse(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in _ITEM.findall(header[:_LONGEST]):
        match = _PREFERENCE.fullmatch(item)
        if match:
            name, value = match.groups(default="")
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            found.setdefault(name.lower(), value)
    return found


def prefers_html(accept: MIMEAccept) -> bool:
    """Whether the client prefers a page to JSON, as browsers do when they navigate.

    Without a preference (no `Accept`, or `*/*`) it gets JSON.
    """
    html = max(accept["text/html"], accept["application/xhtml+xml"])
    return bool(html > max(accept["application/json"], accept["application/problem+json"]))
