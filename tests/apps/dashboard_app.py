"""The small shop of the dashboard's tests, for a server: a visitor's cookie `who` says what access
they have. Its folder is SHOP_FOLDER."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, request

from dashboard_site import Shop


def create_app() -> Flask:
    """The app."""
    answers: dict[str | None, bool | str] = {"full": True, "read": "read"}
    folder = Path(os.environ["SHOP_FOLDER"])
    made = Shop(folder, access=lambda: answers.get(request.cookies.get("who")))
    return made.app
