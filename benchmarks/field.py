"""The field: the services, and for each peer its folder, its sender and its worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from .note import Notes
from .peers import Peer
from .services import SERVICES, ServiceMissing, stop

PATIENCE = 30.0
"""Seconds for a worker's first job."""
SETTLE = 1.5
"""Seconds after a first job, for what a worker and a sender still do after their start."""


class PeerFailed(Exception):
    """It can't be measured; the text says why."""


class Sender:
    """A handle on `benchmarks.sender` in a process of its own."""

    def __init__(self, peer: Peer, environ: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.sender", peer.name],
                env=environ,
                cwd=environ["PYTHONPATH"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of its process, which leads a session of its own."""
        return self._process.pid

    def ask(self, command: str, *arguments: Any) -> Any:
        """Do it there. Raises PeerFailed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise PeerFailed(lines[-1] if lines else "its sender died") from None
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        """End it."""
        stop(self._process, patience=2.0)


class Entry:
    """One peer on the field."""

    def __init__(self, peer: Peer, folder: Path, url: str | None) -> None:
        self.peer = peer
        self.name = peer.name
        self.folder = folder
        folder.mkdir(parents=True)
        self.environ = peer.environment(folder, url)
        self.notes = Notes(folder / "notes")
        self.prefix: list[str] = []
        """What its worker's command line starts with, such as `nice`."""
        self.command = ["-m", *peer.worker]
        """What follows `python` in it."""

    @contextmanager
    def sender(self) -> Iterator[Sender]:
        """A sender, ready to enqueue."""
        sender = Sender(self.peer, self.environ, self.folder / "sender.log")
        try:
            sender.ask("prepare")
            yield sender
        finally:
            sender.close()

    @contextmanager
    def worker(self, *options: str) -> Iterator[int]:
        """Its worker; gives the pid. It may still be starting."""
        with (self.folder / "worker.log").open("ab") as output:
            process = subprocess.Popen(
                [*self.prefix, sys.executable, *self.command, *options],
                env=self.environ,
                cwd=self.environ["PYTHONPATH"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process.pid
        finally:
            stop(process)

    @contextmanager
    def ready(self) -> Iterator[tuple[Sender, int]]:
        """A sender, and a worker that has run a first job (pid 0 if it needs none)."""
        with ExitStack() as stack:
            sender = stack.enter_context(self.sender())
            pid = stack.enter_context(self.worker()) if self.peer.worker else 0
            self.notes.clear()
            sender.ask("enqueue", 1)
            if not self.notes.wait(1, PATIENCE, 0.02):
                raise PeerFailed(f"its worker ran nothing in {PATIENCE:g} s: {self.worker_log}")
            time.sleep(SETTLE)
            sender.ask("enqueue", 10)
            self.notes.wait(11, PATIENCE, 0.02)
            yield sender, pid

    @property
    def worker_log(self) -> str:
        """The end of what its worker said."""
        return (self.folder / "worker.log").read_text(errors="replace")[-300:]


class Field:
    """The peers that can be measured here; `left_out` says why the others can't."""

    def __init__(self, folder: Path, peers: Sequence[Peer]) -> None:
        self._stack = ExitStack()
        self._folder = folder
        self._peers = peers
        self._runs = 0
        self.left_out: dict[str, str] = {}
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Field:
        installed = []
        for peer in self._peers:
            try:
                _ = peer.version
                installed.append(peer)
            except PackageNotFoundError as error:
                self.left_out[peer.name] = f"{error.name} is not installed"
        for name in sorted({peer.service for peer in installed if peer.service}):
            place = self._folder / name
            place.mkdir()
            os.chmod(place, 0o755)
            try:
                self.urls[name] = self._stack.enter_context(SERVICES[name](place))
            except ServiceMissing as error:
                self.left_out |= {p.name: str(error) for p in installed if p.service == name}
        self._peers = [peer for peer in installed if peer.name not in self.left_out]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def peers(self) -> list[Peer]:
        """Those that are measured."""
        return [peer for peer in self._peers if peer.name not in self.left_out]

    def entry(self, peer: Peer) -> Entry:
        """A folder of its own for it, and a place of its own in its service."""
        self._runs += 1
        url = self.urls.get(peer.service or "")
        if peer.service == "redis":
            url = f"{url}/{self._runs}"
        return Entry(peer, self._folder / f"{peer.module}{self._runs}", url)
