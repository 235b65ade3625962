"""A line to a database on which the answer to COMMIT is lost, or COMMIT itself."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: to close is to reset."""
COMMIT = re.compile(rb"(?<![A-Z])COMMIT(?:\0|\Z)")
"""The statement alone, not the AUTOCOMMIT that a MySQL driver sets when it connects."""


class CommitLine:
    """Forwards what comes to `port`. It cuts the line at this share of the commits, in one of three
    ways: COMMIT never arrives, its answer never arrives, or either, by chance.

    lost: how many times, by way.
    """

    WAYS = ("COMMIT lost", "answer lost", "cut at once")

    def __init__(
        self, target: tuple[str, int], seed: int, loss: float, ways: Sequence[str] = WAYS
    ) -> None:
        self.loss = loss
        self._ways = ways
        self.lost: dict[str, int] = dict.fromkeys(self.WAYS, 0)
        self._target = target
        self._chance = random.Random(seed)
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def close(self) -> None:
        """End it for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target, timeout=5)
            far.settimeout(None)
            self._ends += [near, far]
            self._run(self._backward, near, far)
            self._run(self._forward, near, far)

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(1 << 16):
                if COMMIT.search(data) and self._chance.random() < self.loss:
                    self._lose(near, far, data)
                    break
                far.sendall(data)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _backward(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(1 << 16):
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)

    def _lose(self, near: socket.socket, far: socket.socket, data: bytes) -> None:
        way = self._chance.choice(self._ways)
        self.lost[way] += 1
        if way == "cut at once":
            far.sendall(data)  # the client may still see the answer
            return
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        near.shutdown(socket.SHUT_RDWR)  # first, so that no answer is passed on
        if way == "answer lost":
            far.sendall(data)

    def _run(self, what: Callable[..., None], *ends: socket.socket) -> None:
        thread = threading.Thread(target=what, args=ends, daemon=True)
        self._threads.append(thread)
        thread.start()
