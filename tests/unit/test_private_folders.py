"""Folders beside the database that are another user's are refused, links are not followed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from flask import Flask

from flask_offload import EngineUnavailable, Offload
from flask_offload.checks import check_all
from flask_offload.engines.lock import Lock
from flask_offload.engines.slots import Slots
from flask_offload.engines.store import Retention, StoreOptions
from flask_offload.engines.worker_locks import run_folder
from flask_offload.errors import ForeignFolder
from flask_offload.payload.private_folder import make_private
from flask_offload.payload.spool import Spool

OPTIONS = StoreOptions(
    kind="thread", retention=Retention(1.0, 1.0, 1), places=1, capacity=1, queues=None
)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask(__name__)
    app.testing = True
    app.config.update(OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3", OFFLOAD_SPOT=False)
    Offload(app)
    return app


def spoil(folder: Path, how: str, elsewhere: Path) -> str:
    """Make the folder as somebody else would; what the refusal says."""
    if how == "link":
        elsewhere.mkdir()
        folder.symlink_to(elsewhere)
        return "is a link"
    folder.mkdir()
    if how == "open":
        folder.chmod(0o777)
        return "others can write"
    os.chown(folder, 12345, -1)
    return "belongs to user 12345"


@pytest.mark.parametrize("how", ["link", "open", pytest.param("other user", marks=is_root)])
@pytest.mark.parametrize("suffix", ["-run", "-files"])
def test_a_folder_that_was_there_first_is_refused(
    app: Flask, tmp_path: Path, suffix: str, how: str
) -> None:
    state = app.extensions["offload"].state_of(app)
    with app.app_context():
        state.engine.count()  # the database is made
        folder = state.database.with_name(state.database.name + suffix)
        if suffix == "-run" and folder.exists():
            folder.rmdir()
        message = spoil(folder, how, tmp_path / "elsewhere")
        spool = Spool(folder, max_file=10, max_total=10)
        is_run = suffix == "-run"
        with pytest.raises(EngineUnavailable, match=message):
            state.engine.open_store(OPTIONS) if is_run else spool.save(io.BytesIO(b"x"))
        found = [f for f in check_all(state) if f.check == "permissions"]
        assert [f.level for f in found if message in f.message] == ["problem"]
        assert "ok" not in [f.level for f in found]
        state.engine.close()
    if how == "link":
        assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_lock_and_slots_that_are_links_are_not_followed(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "jobs.sqlite3")
    make_private(folder)
    for name in ("w1.lock", "w1.slots"):
        (folder / name).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        Lock(folder / "w1.lock").acquire()
    with pytest.raises(OSError, match=r"symbolic links|exists"):
        Slots(folder / "w1.slots", 3)
    assert not (tmp_path / "victim").exists()


def test_a_refusal_is_an_os_error_too() -> None:
    assert issubclass(ForeignFolder, PermissionError)
