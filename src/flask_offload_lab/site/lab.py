"""What the lab's web app shares between its pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import current_app

from ..demo import DemoTable
from ..testbed import LabTestbed
from ..user_app import UserAppServer


@dataclass
class Lab:
    """testbed: what is measured on. table: what was measured at the start, if it was.

    project: the folder of the reader's project, where `--build` named one. user_app: the reader's
    own app, where `--app` named one.
    """

    testbed: LabTestbed
    table: DemoTable | None = None
    project: Path | None = None
    user_app: UserAppServer | None = None


def lab() -> Lab:
    """The current app's."""
    found: Lab = current_app.extensions["lab"]
    return found
