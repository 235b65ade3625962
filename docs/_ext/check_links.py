"""Check every link of the built site: `python docs/_ext/check_links.py FOLDER [--external]`.

Links within the site are always checked, anchors included. Links to other sites are checked only
with --external, because that needs a network.
"""

from __future__ import annotations

import sys
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page and what can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if anchor := found.get("id"):
            self.anchors.add(anchor)
        for name in ("href", "src"):
            if link := found.get(name):
                self.links.add(link)


def broken_links(folder: Path) -> tuple[list[str], set[str]]:
    """Sentences about links that lead nowhere, and the addresses of other sites."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    broken, external = [], set()
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                external.add(link)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            name = path.relative_to(folder)
            if not target.exists():
                broken.append(f"{name}: {link}: no such file")
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                broken.append(f"{name}: {link}: no such place on the page")
    return broken, external


def answers(address: str) -> bool:
    """Whether another site has something at this address."""
    request = urllib.request.Request(address, headers={"User-Agent": "link check"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return bool(response.status < 400)
    except OSError:
        return False


def main() -> int:
    broken, external = broken_links(Path(sys.argv[1]).resolve())
    web = {link for link in external if link.startswith(("http:", "https:"))}
    if "--external" in sys.argv:
        broken += [f"{link}: no answer" for link in sorted(web) if not answers(link)]
        left_out = ""
    else:
        left_out = f"; {len(web)} links to other sites were not followed (--external does)"
    print(*broken, sep="\n", end="\n" if broken else "")
    print(f"Links: {len(broken)} broken{left_out}.")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
