"""The lab is an app like any other: it uses public names of Flask-Offload only."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import flask_offload_lab

PUBLIC = {
    "flask_offload",
    "flask_offload.engine_api",
    "flask_offload.errors",
    "flask_offload.measure",
    "flask_offload.profiler",
    "flask_offload.testing",
}


def imported() -> Iterator[tuple[str, str, str]]:
    """File, module and name of every import of flask_offload in the lab."""
    for path in sorted(Path(flask_offload_lab.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                module = node.module or ""
                if module.partition(".")[0] == "flask_offload":
                    yield from ((path.name, module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] == "flask_offload":
                        yield path.name, alias.name, ""


def test_the_lab_uses_public_names_only() -> None:
    found = list(imported())
    assert found
    private = [each for each in found if each[1] not in PUBLIC or each[2].startswith("_")]
    assert private == []
    for file, name, attribute in found:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", None) or vars(module)
        assert not attribute or attribute in public, (file, name, attribute)
