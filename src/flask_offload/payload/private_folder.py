"""Folders that belong to the user of this process alone: for locks, slots and uploaded files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import ForeignFolder


def make_private(folder: Path) -> None:
    """Make the folder, mode 0700, or make sure that it is this user's. Raises OSError, and
    ForeignFolder where another user has made it, others can write to it, or it is a link."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ForeignFolder(f"{folder} is a link: replace it by a folder of this user")
    if found.st_uid != os.geteuid():
        raise ForeignFolder(
            f"{folder} belongs to user {found.st_uid}, and this process runs as user"
            f" {os.geteuid()}: run it as that user, or remove the folder"
        )
    if found.st_mode & 0o022:
        raise ForeignFolder(f"others can write to {folder}: chmod 700 it")
