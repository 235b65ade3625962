"""Which of Python's audit events mean that the code waits for something outside the process.

The table of all events: https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import Any, NamedTuple


class Blocking(NamedTuple):
    """Something that blocks.

    kind: mail, network, process, file or sleep. does: a verb for the message. event: Python's name
    for it. detail: the host, the program or the file. depth: 0 for an operation; 1 and 2 for its
    steps, such as looking up a host and then connecting to it.
    """

    kind: str
    does: str
    event: str
    detail: str
    depth: int

    def is_allowed(self, patterns: tuple[str, ...]) -> bool:
        """Whether a pattern (`*` and `?` as in shells) fits the kind, the event or the detail."""
        names = (self.kind, self.event, self.detail)
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


TEMPORARY = "temporary"
"""The kind of what is no blocking: it names a path that may be written to."""

# event: kind, verb, the arguments that are the detail, depth
_EVENTS = {
    "smtplib.connect": ("mail", "sends mail", slice(1, 3), 0),
    "http.client.connect": ("network", "sends an HTTP request", slice(1, 3), 0),
    "ftplib.connect": ("network", "opens an FTP connection", slice(1, 3), 0),
    "imaplib.open": ("network", "opens an IMAP connection", slice(1, 3), 0),
    "poplib.connect": ("network", "opens a POP3 connection", slice(1, 3), 0),
    "socket.getaddrinfo": ("network", "looks up a host", slice(2), 1),
    "socket.gethostbyname": ("network", "looks up a host", slice(1), 2),
    "socket.connect": ("network", "opens a network connection", slice(1, 2), 2),
    "socket.gethostbyaddr": ("network", "looks up a host", slice(1), 2),
    "subprocess.Popen": ("process", "starts a program", slice(1), 0),
    "os.system": ("process", "starts a program", slice(1), 0),
    "os.posix_spawn": ("process", "starts a program", slice(1), 1),
    "os.fork": ("process", "forks", slice(0), 0),
    "os.forkpty": ("process", "forks", slice(0), 0),
    "open": ("file", "opens a file to write", slice(1), 0),
    "tempfile.mkdtemp": (TEMPORARY, "makes a folder", slice(1), 0),
    "tempfile.mkstemp": (TEMPORARY, "makes a file", slice(1), 0),
    "time.sleep": ("sleep", "sleeps", slice(1), 0),  # Python 3.13 and later
}
_LOOKUPS = frozenset({"socket.gethostbyname", "socket.gethostbyaddr"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

listener: ContextVar[Callable[[Blocking], None] | None] = ContextVar(
    "flask_offload_audit_listener", default=None
)
"""Called with each blocking event of this context, in the thread that causes it."""

elsewhere: list[Callable[[Blocking], None]] = []
"""Called with each blocking event of a context that has no listener: of other threads."""

_is_installed = False


def install_hook() -> None:
    """Install the process's one hook, which calls the listener. A hook can't be removed."""
    global _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    known = _EVENTS.get(event)  # called for every event of every thread: return early
    if known is None:
        return
    listen = listener.get()
    listening = elsewhere if listen is None else [listen]
    if not listening or (event == "open" and not _is_writing(*args)):
        return
    kind, does, which, depth = known
    detail = ":".join(map(_text, args[which]))
    if event in _LOOKUPS and detail in ("localhost", "127.0.0.1", "::1", socket.gethostname()):
        return  # in the hosts file, or known to the machine
    for each in list(listening):
        each(Blocking(kind, does, event, detail, depth))


def _is_writing(path: object, mode: object, flags: object) -> bool:
    if isinstance(path, int) or _text(path).startswith("/dev/"):
        return False  # already open, or a device
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & _WRITING)


def _text(value: object) -> str:
    if isinstance(value, tuple):  # an address: host, port and, for IPv6, more
        return ":".join(map(_text, value[:2]))
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
