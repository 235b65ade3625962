"""The guest's web process: `python -m flask_offload_lab.user_app FD APP FOLDER`.

It is the app as `flask --app APP run` would serve it, behind one thread, with the spotter on. An
app that has no Flask-Offload gets one for as long as it is here; nothing of the app is changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flask import Flask
from flask.cli import ScriptInfo

from flask_offload import Offload

from ..serving import serve

ABOUT = "about.json"
MOST_ROUTES = 20


def load(name: str, folder: Path) -> Flask:
    """The app, with an Offload. Raises what its import raises."""
    sys.path.insert(0, str(Path.cwd()))
    app = ScriptInfo(app_import_path=name).load_app()
    if "offload" not in app.extensions:
        app.config["OFFLOAD_SQLITE_PATH"] = str(folder / "guest.sqlite3")
        app.config["OFFLOAD_WORKER"] = "off"
        Offload(app)
    return app


def routes(app: Flask) -> list[str]:
    """The pages that can be asked for without knowing more: GET, and nothing to fill in."""
    found = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and not rule.arguments
        and not rule.websocket
        and rule.endpoint != "static"
        and not rule.endpoint.startswith("offload.")
    }
    return sorted(found)[:MOST_ROUTES]


def describe(app: Flask, folder: Path) -> None:
    """Leave a note for the lab: which pages there are, and where the spotter writes."""
    offload: Offload = app.extensions["offload"]
    store = offload.state_of(app).evidence_settings().store_path
    about = {"routes": routes(app), "evidence": None if store is None else str(store)}
    (folder / ABOUT).write_text(json.dumps(about))


if __name__ == "__main__":
    guest_folder = Path(sys.argv[3])
    guest = load(sys.argv[2], guest_folder)
    describe(guest, guest_folder)
    serve(guest, int(sys.argv[1]))
