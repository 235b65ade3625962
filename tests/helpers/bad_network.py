"""A line to a server on which connections are reset and packets get lost.

A lost packet is one that comes late, as it has to be sent again; TCP hides the rest.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from brokers import Server

AGAIN = (0.2, 0.4, 0.8)
"""Seconds until Linux sends a packet again, and again."""
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: to close is to reset."""


class BadLine:
    """Forwards what comes to `port` to `target`, which may be changed for new connections. loss:
    the share of packets that come late.

    late, resets: how many packets came late, and how many connections were reset.
    """

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self.loss = 0.0
        self.late = 0
        self.resets = 0
        self.target = target
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._run(self._accept)

    def reset(self) -> None:
        """Reset every connection, in the middle of whatever it carries."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        self.resets += len(pairs)
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            end.close()

    def close(self) -> None:
        """End it for good."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self._threads[0].join()
        self.reset()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs.append((near, far))
            self._run(self._pump, near, far)
            self._run(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._chance.random() < self.loss:
                    self.late += 1
                    time.sleep(self._chance.choice(AGAIN))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _run(self, what: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=what, args=arguments)
        self._threads.append(thread)
        thread.start()


@contextmanager
def bad_network(server: Server, seed: int) -> Iterator[tuple[BadLine, Server]]:
    """Such a line, and the server as one reaches it by the line."""
    line = BadLine((server.host, server.port), seed)
    try:
        yield line, type(server)(server.folder, line.port)
    finally:
        line.close()
