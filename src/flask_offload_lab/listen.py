"""Listening sockets that outlive the servers on them."""

from __future__ import annotations

import socket

PORT = 5080
"""Where the lab listens unless told otherwise."""


def listen(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError if the port is taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        # Linux: a connection is handed over when its first bytes are here. Browsers open some ahead
        # that they never use, and a server with one thread would sit waiting for those.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    listening.listen(128)
    return listening
