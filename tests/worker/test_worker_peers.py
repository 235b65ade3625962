"""Workers see the end of other workers."""

from __future__ import annotations

import os
import selectors
import subprocess
from functools import partial
from pathlib import Path

import pytest

from flask_offload.engines.worker_locks import other_workers
from flask_offload.worker.peers import Peers

pytestmark = pytest.mark.processes


def test_the_end_of_another_worker_is_seen_once(tmp_path: Path) -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as other,
        selectors.DefaultSelector() as selector,
    ):
        (tmp_path / f"w{other.pid}-0123abcd.lock").touch()
        (tmp_path / f"w{os.getpid()}-0123abcd.lock").touch()  # our own
        (tmp_path / "keeper.lock").touch()
        peers = Peers(selector, partial(other_workers, tmp_path, f"w{os.getpid()}-0123abcd"))
        peers.look()
        peers.look()
        assert len(selector.get_map()) == 1
        assert selector.select(0) == []
        other.kill()
        ((key, _),) = selector.select(10)
        assert peers.has_ended(key.fileobj)
        assert not peers.has_ended(key.fileobj)
        assert len(selector.get_map()) == 0


def test_a_worker_that_has_left_is_watched_no_more(tmp_path: Path) -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as other,
        selectors.DefaultSelector() as selector,
    ):
        lock = tmp_path / f"w{other.pid}-0123abcd.lock"
        lock.touch()
        peers = Peers(selector, partial(other_workers, tmp_path, "w1-0"))
        peers.look()
        lock.unlink()
        peers.look()
        assert len(selector.get_map()) == 0
        other.kill()


def test_lock_files_of_dead_workers_are_ignored(tmp_path: Path) -> None:
    with selectors.DefaultSelector() as selector:
        with subprocess.Popen(["true"]) as ended:
            pass
        (tmp_path / f"w{ended.pid}-0123abcd.lock").touch()
        Peers(selector, partial(other_workers, tmp_path, "w1-0")).look()
        assert len(selector.get_map()) == 0
        Peers(selector, partial(other_workers, tmp_path / "missing", "w1-0")).look()
