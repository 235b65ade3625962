"""Links of the pages to files outside docs/ lead to the repository, where a reader can see them."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
# These files are other pages of the site.
PAGES = {
    "README.md": "index.md",
    "docs/README.md": "index.md",
    "CHANGES.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "UPGRADING.md": "upgrading.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(?<=\]\()((?!https?:|mailto:|#)[^)\s]+)(?=\))")


def rewritten(text: str, folder: Path) -> str:
    """The Markdown of a page in this folder, with each link to outside of docs/ made absolute."""

    def target(match: re.Match[str]) -> str:
        link, hash_, anchor = match[1].partition("#")
        path = (folder / link).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]  # Sphinx reports it
        name = path.relative_to(ROOT).as_posix()
        if name in PAGES:
            page = ROOT / "docs" / PAGES[name]
        elif name.startswith("docs/") and path.suffix in {".md", ".png", ".svg"}:
            page = path
        else:
            return f"{SOURCE}/{'tree' if path.is_dir() else 'blob'}/main/{name}{hash_}{anchor}"
        return os.path.relpath(page, folder) + hash_ + anchor

    return _LINK.sub(target, text)


def _source_read(app: Any, docname: str, content: list[str]) -> None:
    folder = (Path(app.srcdir) / docname).parent
    content[0] = rewritten(content[0], folder)


def _include_read(app: Any, path: Path, docname: str, content: list[str]) -> None:
    # An included file's links are relative to that file; the page that includes it is elsewhere.
    including = (Path(app.srcdir) / docname).parent
    text = rewritten(content[0], (Path(app.srcdir) / path).resolve().parent)

    def relative(match: re.Match[str]) -> str:
        link, hash_, anchor = match[1].partition("#")
        found = (Path(app.srcdir) / path).resolve().parent / link
        if not link or not found.exists():
            return match[0]
        return os.path.relpath(found, including) + hash_ + anchor

    content[0] = _LINK.sub(relative, text)


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _source_read)
    app.connect("include-read", _include_read)
    return {"parallel_read_safe": True}
