"""What the club's processes are told by the lab, through the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flask import current_app

from ..journal import Journal
from ..photo import SAMPLE

KEY = "LAB_CLUB"
"""Where an app's config holds its settings."""


@dataclass(frozen=True)
class Settings:
    """Where things are. folder: everything the club writes; a temporary one, of its own."""

    folder: Path
    smtp_port: int
    origin: str
    """The club's own address, such as http://127.0.0.1:8001."""
    lab_origin: str
    """Who may show the club's pages in frames."""

    @classmethod
    def from_environ(cls) -> Settings:
        """The reverse of `environ`. Raises KeyError outside of the lab."""
        return cls(
            Path(os.environ["LAB_FOLDER"]),
            int(os.environ["LAB_SMTP_PORT"]),
            os.environ["LAB_CLUB_ORIGIN"],
            os.environ["LAB_ORIGIN"],
        )

    def environ(self) -> dict[str, str]:
        """Environment variables for a process of the club."""
        return {
            "LAB_FOLDER": str(self.folder),
            "LAB_SMTP_PORT": str(self.smtp_port),
            "LAB_CLUB_ORIGIN": self.origin,
            "LAB_ORIGIN": self.lab_origin,
        }

    @property
    def database(self) -> Path:
        """The jobs."""
        return self.folder / "offload.sqlite3"

    @property
    def journal(self) -> Path:
        """What happened when."""
        return self.folder / "journal.txt"

    @property
    def evidence(self) -> Path:
        """What the spotter has found; it lies beside the jobs."""
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
        """The member's portraits; made if need be."""
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
