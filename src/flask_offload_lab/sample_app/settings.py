"""What the modules of the sample app share: its settings, its journal, and its one Offload."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flask import current_app

from flask_offload import Offload

from ..journal import Journal
from ..photo import SAMPLE

offload = Offload()

WELCOME, WORKSHOP = QUEUES = ("lab-welcome", "lab-workshop")
"""The queues, with names that other apps on the same broker do not use."""

KEY = "LAB_SAMPLE_APP"
"""Where an app's config holds its settings."""


@dataclass(frozen=True)
class Settings:
    """What the lab passes to the sample app's processes, through the environment.

    folder: a temporary one, for everything that the sample app writes.
    """

    folder: Path
    smtp_port: int
    origin: str
    """The sample app's own address, such as http://127.0.0.1:8001."""
    lab_origin: str
    """The site that may show the sample app's pages in frames."""

    @classmethod
    def from_environ(cls) -> Settings:
        """The reverse of `environ`. Raises KeyError outside of the lab."""
        return cls(
            Path(os.environ["LAB_FOLDER"]),
            int(os.environ["LAB_SMTP_PORT"]),
            os.environ["LAB_SAMPLE_APP_ORIGIN"],
            os.environ["LAB_ORIGIN"],
        )

    def environ(self) -> dict[str, str]:
        """Environment variables for a process of the sample app."""
        return {
            "LAB_FOLDER": str(self.folder),
            "LAB_SMTP_PORT": str(self.smtp_port),
            "LAB_SAMPLE_APP_ORIGIN": self.origin,
            "LAB_ORIGIN": self.lab_origin,
        }

    @property
    def database(self) -> Path:
        """The embedded engine's database."""
        return self.folder / "offload.sqlite3"

    @property
    def journal(self) -> Path:
        """What happened when."""
        return self.folder / "journal.txt"

    @property
    def evidence(self) -> Path:
        """The profiler's findings."""
        return self.folder / "offload.sqlite3-evidence.sqlite3"

    @property
    def upload(self) -> Path:
        """The visitor's own photo, once there is one."""
        return self.folder / "upload"

    @property
    def members(self) -> Path:
        """A folder of portraits for each member."""
        return self.folder / "members"

    def folder_of(self, member: str) -> Path:
        """The member's portraits; made if it does not exist."""
        folder = self.members / member
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def settings() -> Settings:
    """The current app's."""
    found: Settings = current_app.config[KEY]
    return found


def journal() -> Journal:
    """The current app's."""
    return Journal(settings().journal)


def portrait() -> bytes:
    """The visitor's own photo if they uploaded one, else the one that ships."""
    own = settings().upload
    return (own if own.exists() else SAMPLE).read_bytes()
