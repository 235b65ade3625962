"""The user's own app in the lab: `flask offload lab --app myapp`.

`python -m flask_offload_lab.user_app FD APP FOLDER` is its web process: the app as
`flask --app APP run` would serve it, with one thread, and with the profiler on. An app that has no
Flask-Offload gets one in this process only; nothing of the app is changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Flask
from flask.cli import ScriptInfo

from flask_offload import Offload

from .webserver import WebServer, serve

ABOUT = "about.json"
MAX_ROUTES = 20

PROFILING = {
    "FLASK_OFFLOAD_SPOT": "true",
    "FLASK_OFFLOAD_SERVER_TIMING": "true",
}
"""For an app that has not set these itself."""


class UserAppServer(WebServer):
    """The user's app behind a web server with one thread.

    name: as `flask --app` takes it. folder: for the files that the lab adds.
    """

    def __init__(self, name: str, folder: Path) -> None:
        module = "flask_offload_lab.user_app"
        super().__init__(module, [name, str(folder)], PROFILING, folder / "user-app.log")
        self.name = name
        self._folder = folder

    @property
    def routes(self) -> Sequence[str]:
        """The pages that can be measured: GET without parameters."""
        found: list[str] = self._about()["routes"]
        return found

    @property
    def evidence(self) -> Path | None:
        """The file of the profiler's findings."""
        path = self._about()["evidence"]
        return None if path is None else Path(path)

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self._folder / ABOUT).read_text())
        return about


def load(name: str, folder: Path) -> Flask:
    """The app, with an Offload. Raises what its import raises."""
    sys.path.insert(0, str(Path.cwd()))
    app = ScriptInfo(app_import_path=name).load_app()
    if "offload" not in app.extensions:
        app.config["OFFLOAD_SQLITE_PATH"] = str(folder / "user-app.sqlite3")
        app.config["OFFLOAD_WORKER"] = "off"
        Offload(app)
    return app


def routes(app: Flask) -> list[str]:
    """The pages that can be requested as they are: GET, and no parameter in the path."""
    found = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
        and not rule.arguments
        and not rule.websocket
        and rule.endpoint != "static"
        and not rule.endpoint.startswith(("offload.", "offload_"))
    }
    return sorted(found)[:MAX_ROUTES]


def describe(app: Flask, folder: Path) -> None:
    """Write down for the lab which pages there are, and where the profiler writes."""
    offload: Offload = app.extensions["offload"]
    store = offload.state_of(app).profiler_settings().store_path
    about = {"routes": routes(app), "evidence": None if store is None else str(store)}
    (folder / ABOUT).write_text(json.dumps(about))


def main(fd: str, name: str, folder: str) -> None:
    """Serve the app on a listening socket, until the lab ends."""
    app = load(name, Path(folder))
    describe(app, Path(folder))
    serve(app, int(fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
