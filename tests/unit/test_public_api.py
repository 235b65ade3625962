"""The Celery engine and the lab are built like packages of other authors: on public names only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import flask_offload_celery
import flask_offload_lab

PUBLIC = frozenset(
    {
        "flask_offload",
        "flask_offload.engine_api",
        "flask_offload.errors",
        "flask_offload.measure",
        "flask_offload.profiler",
        "flask_offload.signals",
        "flask_offload.testing",
    }
)


def private_imports(source: str) -> Iterator[str]:
    """Each module or name of flask_offload that this source imports and that is not public."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name for name in names if _is_private_module(name))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if _is_private_module(node.module) or _is_private(node.module, alias.name):
                    yield f"{node.module}.{alias.name}"


def _is_private_module(name: str) -> bool:
    return name.partition(".")[0] == "flask_offload" and name not in PUBLIC


def _is_private(module: str, name: str) -> bool:
    """A name that a public module has, but does not list, or a private submodule."""
    if module not in PUBLIC or f"{module}.{name}" in PUBLIC:
        return False
    listed = getattr(import_module(module), "__all__", None)
    return name not in listed if listed is not None else name.startswith("_")


@pytest.mark.parametrize("package", [flask_offload_celery, flask_offload_lab])
def test_the_other_packages_import_public_names_only(package: ModuleType) -> None:
    (folder,) = map(Path, package.__path__)
    found = {
        path.name: names
        for path in sorted(folder.rglob("*.py"))
        if (names := list(private_imports(path.read_text())))
    }
    assert found == {}, "export them in a public package, or do without"


def test_what_is_not_public_is_found() -> None:
    source = """
import flask_offload.engines.base
import flask_offload.errors
from flask_offload import Task, _log, jobs, signals
from flask_offload.engine_api import Host, annotations
from flask_offload.engines.host import Host
from flask_offloaded import other
from .records import record
"""
    assert list(private_imports(source)) == [
        "flask_offload.engines.base",
        "flask_offload._log",
        "flask_offload.jobs",
        "flask_offload.engine_api.annotations",
        "flask_offload.engines.host.Host",
    ]
