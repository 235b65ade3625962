"""What the lab's web app shares between its pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import current_app

from ..demo import Table
from ..testbed import Bench
from ..user_app_server import GuestServer


@dataclass
class Lab:
    """bench: what is measured on. table: what was measured at the start, if it was.

    project: the folder of the reader's project, where `--build` named one. guest: the reader's own
    app, where `--app` named one.
    """

    bench: Bench
    table: Table | None = None
    project: Path | None = None
    guest: GuestServer | None = None


def lab() -> Lab:
    """The current app's."""
    found: Lab = current_app.extensions["lab"]
    return found
