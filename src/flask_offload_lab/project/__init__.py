"""The project of Build: the app that the reader starts with, the solved one, and their folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import LabError

FOLDER = Path(__file__).parent
SOLVED = FOLDER / "solved.py"
"""The app as it may look after the last step."""


class NotAFolder(LabError):
    """The folder for the project can't be used."""


def prepare(folder: Path) -> Path:
    """Make the folder and put the starting app into it; files that exist are left as they are.

    Gives the absolute path. Raises NotAFolder.
    """
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, name in (("start.py", "app.py"), ("README.md", "README.md")):
            if not (folder / name).exists():
                shutil.copyfile(FOLDER / source, folder / name)
    except OSError as error:
        raise NotAFolder(
            f"--build {folder}: {error.strerror}. Name a folder that you can write to."
        ) from None
    return folder
