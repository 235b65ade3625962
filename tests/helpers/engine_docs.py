"""The parts of docs/engines.md that are made from the code: the table of flags, and the example.

`python tests/engine_docs.py` (or `make docs`) writes them anew; test_engine_docs.py fails when they
are stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from flask_offload.admin.postgres import PostgresEngine
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines import base
from flask_offload.engines.base import Engine, Flags
from flask_offload.inline import InlineEngine
from flask_offload_celery.engine import CeleryEngine

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "engines.md"
EXAMPLE = ROOT / "docs" / "engine-example"
ENGINES: tuple[type[Engine], ...] = (SqliteEngine, PostgresEngine, CeleryEngine, InlineEngine)


def meanings() -> dict[str, str]:
    """The text under each flag."""
    tree = ast.parse(Path(base.__file__).read_text())
    (flags,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Flags")
    found = {}
    for field, text in zip(flags.body, flags.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def table(engines: tuple[type[Engine], ...] = ENGINES) -> str:
    """A row for each flag, a column for each engine."""
    meaning = meanings()
    lines = [
        f"| flag | what it promises | {' | '.join(f'`{engine.name}`' for engine in engines)} |",
        f"|---|---|{'---|' * len(engines)}",
    ]
    for field in fields(Flags):
        cells = " | ".join(_cell(engine, field.name) for engine in engines)
        lines.append(f"| `{field.name}` | {meaning[field.name]} | {cells} |")
    return "\n".join(lines)


def _cell(engine: type[Engine], flag: str) -> str:
    if getattr(engine.flags, flag):
        return "yes"
    return "ignored" if flag in engine.ignores else "no"


def example(name: str) -> str:
    """A file of the example, as a block of code."""
    kind = {".py": "python", ".toml": "toml"}[Path(name).suffix]
    return f"```{kind}\n{(EXAMPLE / name).read_text().rstrip()}\n```"


def parts() -> Mapping[str, str]:
    """Everything that is made, by the name in its marker."""
    return {
        "flags": table(),
        "pyproject.toml": example("pyproject.toml"),
        "flask_offload_folder.py": example("flask_offload_folder.py"),
    }


def renewed(page: str, made: Mapping[str, str]) -> str:
    """The page with what is made between `<!-- made: NAME -->` and `<!-- /made -->`."""
    for name, text in made.items():
        pattern = rf"(?s)(<!-- made: {re.escape(name)} -->\n).*?(\n<!-- /made -->)"
        page, count = re.subn(pattern, lambda found: found[1] + text + found[2], page)  # noqa: B023
        if count != 1:
            raise ValueError(f"the page has {count} places for {name!r}, not one")
    return page


if __name__ == "__main__":
    before = PAGE.read_text()
    after = renewed(before, parts())
    PAGE.write_text(after)
    print("docs/engines.md", "is as it was" if after == before else "is written anew")
    sys.exit(0)
