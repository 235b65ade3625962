"""The guest's process, seen from the lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .user_app.__main__ import ABOUT
from .webserver import WebServer

SPOTTING = {
    "FLASK_OFFLOAD_SPOT": "true",
    "FLASK_OFFLOAD_SERVER_TIMING": "true",
}
"""For an app that has not decided these for itself."""


class GuestServer(WebServer):
    """An app of the reader's behind a web server with one thread.

    name: as `flask --app` takes it. folder: for what the lab adds to it.
    """

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(
            ["flask_offload_lab.user_app", name, str(folder)], SPOTTING, folder / "guest.log"
        )
        self.name = name
        self._folder = folder

    @property
    def routes(self) -> Sequence[str]:
        """The pages that can be measured: GET without parameters."""
        found: list[str] = self._about()["routes"]
        return found

    @property
    def evidence(self) -> Path | None:
        """What its spotter has found."""
        path = self._about()["evidence"]
        return None if path is None else Path(path)

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self._folder / ABOUT).read_text())
        return about
