"""Makes the folder for the project of Build."""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import LabError

PROJECT = Path(__file__).parent / "project"
FILES = {"start.py": "app.py", "README.md": "README.md"}


class NotAFolder(LabError):
    """The folder for the project can't be used."""


def prepare(folder: Path) -> Path:
    """Make the folder and put the starting app into it; what is there already stays as it is.

    Gives the absolute path. Raises NotAFolder.
    """
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, name in (
            (PROJECT / "start.py", "app.py"),
            (PROJECT / "README.md", "README.md"),
        ):
            if not (folder / name).exists():
                shutil.copyfile(source, folder / name)
    except OSError as error:
        raise NotAFolder(
            f"--build {folder}: {error.strerror}. Name a folder that you can write to."
        ) from None
    return folder


def after(step: int) -> str:
    """The whole app as it may look after a step, the first being 1."""
    return (PROJECT / f"step{step}.py").read_text(encoding="utf-8")
