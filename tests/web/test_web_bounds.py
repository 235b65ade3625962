"""Requests that would cost more than they are worth are refused before they are read or written."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, redirect, request
from flask.views import MethodView
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_offload import Offload
from flask_offload.errors import OptionError, SpoolFull
from flask_offload.payload import spool as spool_module
from flask_offload.payload.spool import MAX_FILES, Spool
from flask_offload.testing import drain

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = Flask(__name__)
    app.testing = True
    app.config.update(OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3", OFFLOAD_MAX_PAYLOAD=100_000)
    app.config["OFFLOAD_SPOT"] = False
    offload = Offload(app)

    @app.post("/echo")
    @offload.respond_async
    def echo() -> str:
        return f"{len(request.get_data())} {len(request.files)}"

    @app.get("/rel/<path:to>")
    @offload.respond_async
    def relative(to: str) -> Response:
        return redirect(to.replace("~", "../"))  # type: ignore[return-value]

    class Item(MethodView):
        decorators = [offload.respond_async]  # noqa: RUF012

        def get(self, number: int) -> str:
            return f"item {number}"

    app.add_url_rule("/item/<int:number>", view_func=Item.as_view("item"))
    yield app
    with app.app_context():
        offload.engine.close()


def files(number: int) -> dict[str, object]:
    return {f"file{n}": (io.BytesIO(b""), f"{n}.txt") for n in range(number)}


def test_many_files_are_refused_and_none_stays(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    refused = client.post("/echo", data=files(MAX_FILES + 1), headers=ASYNC)
    assert refused.status_code == 413
    assert f"more than {MAX_FILES} uploaded files" in refused.get_data(as_text=True)
    assert list((tmp_path / "jobs.sqlite3-files").iterdir()) == []
    assert client.post("/echo", data=files(MAX_FILES), headers=ASYNC).status_code == 202


def test_the_files_of_a_call_are_synced_and_counted_once(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    syncs: list[Path] = []

    def usage(spool: Spool) -> tuple[int, int]:
        looks.append(1)
        return 0, 0

    monkeypatch.setattr(Spool, "usage", usage)
    monkeypatch.setattr(spool_module, "_sync_folder", syncs.append)
    app.test_client().post("/echo", data=files(20), headers=ASYNC)
    assert len(looks) == 1
    assert len(syncs) == 2, "the folder's parent, as it is new, and the folder"


def test_empty_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "FEWEST", 3)
    spool = Spool(tmp_path / "files", max_file=10, max_total=3 * 4096, durable=False)
    for _ in range(3):
        spool.save(io.BytesIO(b""))
    with pytest.raises(SpoolFull, match="OFFLOAD_MAX_SPOOL"):
        spool.save(io.BytesIO(b""))


class Endless(io.RawIOBase):
    """A body that goes on for ever, and how much of it was read."""

    def __init__(self) -> None:
        self.taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "the whole body is asked for"
        self.taken += size
        return b"x" * size

    def seek(self, *_: object) -> int:
        return 0


def test_a_body_of_unknown_length_is_read_up_to_the_limit(app: Flask) -> None:
    body = Endless()
    environ = EnvironBuilder("/echo", method="POST", headers=list(ASYNC.items())).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ["wsgi.input"], environ["wsgi.input_terminated"] = body, True
    _, status, _ = run_wsgi_app(app.wsgi_app, environ)
    assert status.startswith("413")
    assert body.taken <= 100_001


def test_a_short_body_of_unknown_length_is_taken(app: Flask) -> None:
    environ = EnvironBuilder("/echo", method="POST", headers=list(ASYNC.items())).get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ["wsgi.input"], environ["wsgi.input_terminated"] = io.BytesIO(b"x" * 500), True
    _, status, _ = run_wsgi_app(app.wsgi_app, environ)
    assert status.startswith("202")
    (job,) = drain(app)
    assert job.return_value.body == "500 0"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("done", "/mounted/rel/done"),
        ("./done", "/mounted/rel/done"),
        ("~up", "/mounted/up"),
        ("https://example.org/x", "https://example.org/x"),
    ],
)
def test_relative_redirects_are_resolved_as_for_a_direct_answer(
    app: Flask, target: str, location: str
) -> None:
    where = f"/rel/{target}"
    response = app.test_client().get(where, base_url="http://localhost/mounted", headers=ASYNC)
    assert response.status_code == 202
    (job,) = drain(app)
    assert dict(job.return_value.headers)["Location"] == location


def test_positional_arguments_are_carried(app: Flask) -> None:
    def numbered(view: Any) -> Any:
        return lambda number: view(number, "apples")

    def count(number: int, what: str) -> str:
        return f"{number} {what}"

    moved = numbered(app.extensions["offload"].respond_async(count))
    app.add_url_rule("/count/<int:number>", "count", moved)
    client = app.test_client()
    assert client.get("/count/3").text == "3 apples"
    assert client.head("/count/3").status_code == 200
    assert client.options("/count/3").status_code == 200
    assert client.get("/count/4", headers=ASYNC).status_code == 202
    (job,) = drain(app)
    assert job.return_value.body == "4 apples"


def test_a_class_based_view_works_with_decorators(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/item/3").text == "item 3"
    assert client.get("/item/4", headers=ASYNC).status_code == 202
    (job,) = drain(app)
    assert job.return_value.body == "item 4"


def test_a_decorated_method_is_refused_with_the_remedy() -> None:
    with pytest.raises(OptionError, match=r"decorators = \[offload.respond_async\]"):

        class Item(MethodView):
            @Offload().respond_async
            def get(self) -> str:
                return os.devnull


def test_every_view_has_the_names_that_extensions_read(app: Flask) -> None:
    plain = Flask(__name__)
    plain.config.update(OFFLOAD_ENGINE="inline", OFFLOAD_METRICS=True)
    Offload(plain)
    assert "offload_status.metrics" in plain.view_functions
    for view in (*app.view_functions.values(), *plain.view_functions.values()):
        assert all([view.__module__, view.__name__, view.__qualname__])  # as Flask-Limiter does
