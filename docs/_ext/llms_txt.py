"""llms.txt: the site's pages with a sentence each; llms-full.txt: their Markdown as one text."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from sphinx.addnodes import toctree


def _write(app: Any, error: Exception | None) -> None:
    if error or app.builder.name != "html":
        return
    out, env = Path(app.outdir), app.env
    lines = [f"# {app.config.project}", "", f"> {_summary(app)}", ""]
    full = []
    for part, names in _parts(app):
        lines += [f"## {part}", ""]
        for name in names:
            source = _source(Path(env.doc2path(name)))
            lines.append(f"- [{env.titles[name].astext()}]({name}.html): {_lead(source)}")
            full.append(source.strip())
        lines.append("")
    (out / "llms.txt").write_text("\n".join(lines))
    (out / "llms-full.txt").write_text("\n\n---\n\n".join(full) + "\n")


def _parts(app: Any) -> list[tuple[str, list[str]]]:
    """The captions of the index's toctrees with their pages."""
    tree = app.env.get_doctree(app.config.root_doc)
    return [
        (node["caption"], [name for _, name in node["entries"] if name in app.env.titles])
        for node in tree.findall(toctree)
    ]


def _source(path: Path) -> str:
    """The Markdown of a page; of a page that only includes a file, that file's."""
    text = path.read_text()
    included = re.fullmatch(r"```\{include\} (\S+)\n```\n", text)
    return (path.parent / included[1]).read_text() if included else text


def _summary(app: Any) -> str:
    path = Path(app.srcdir).parent / "pyproject.toml"
    return str(tomllib.loads(path.read_text())["project"]["description"])


def _lead(source: str) -> str:
    """The first sentence of a page's prose."""
    prose = re.sub(r"(?s)^---.*?---\n|```.*?```|<!--.*?-->", "", source)
    for block in prose.split("\n\n"):
        text = " ".join(block.split())
        if text and text[0] not in "#|-<>:[!{(0123456789":
            return re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", re.split(r"(?<=[.])\s", text)[0])
    return ""


def setup(app: Any) -> dict[str, Any]:
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}
