"""The name by which other processes can import the running script."""

from __future__ import annotations

import sys
from pathlib import Path


def main_module() -> str:
    """The importable name of the script that this process runs."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if file is None:
        return "__main__"  # an interactive interpreter
    path = Path(file).resolve()
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():  # as `flask --app FILE` does
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)
