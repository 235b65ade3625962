"""Several hosts on one machine: a network namespace for each, on a switch in one more.

Each has its own address, its own host name, and a cable that can be pulled. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support import missing

CLONE_NEWNET = 0x40000000
SUBNET = "10.213.77"


class Hosts:
    """Made by `hosts`; the machine's own network has no part in it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._prefix = f"t{os.getpid()}-"
        self._names = list(names)

    def address(self, name: str) -> str:
        """The IP address of a host."""
        return f"{SUBNET}.{self._names.index(name) + 1}"

    def command(self, name: str, words: Sequence[str]) -> list[str]:
        """The command that runs `words` on a host, under the host's own name."""
        script = f'hostname {name} && exec "$0" "$@"'
        inside = ["unshare", "--uts", "sh", "-c", script, *words]
        return ["ip", "netns", "exec", self._prefix + name, *inside]

    def pull(self, name: str) -> None:
        """Pull the cable: packets to and from the host vanish."""
        self._ip("-n", self._prefix + "switch", "link", "set", name, "down")

    def plug(self, name: str) -> None:
        """Put the cable back."""
        self._ip("-n", self._prefix + "switch", "link", "set", name, "up")

    @contextmanager
    def being(self, name: str) -> Iterator[None]:
        """Inside the block this thread's sockets, and those of threads that it starts, belong to
        the host."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self._prefix}{name}", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                libc.setns(home, CLONE_NEWNET)
        finally:
            os.close(there)
            os.close(home)

    def make(self) -> None:
        """Make the namespaces, the switch and the cables."""
        switch = self._prefix + "switch"
        self._ip("netns", "add", switch)
        self._ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        self._ip("-n", switch, "link", "set", "bridge", "up")
        for name in self._names:
            host = self._prefix + name
            self._ip("netns", "add", host)
            ends = ("type", "veth", "peer", "name", "eth0", "netns", host)
            self._ip("-n", switch, "link", "add", name, *ends)
            self._ip("-n", switch, "link", "set", name, "master", "bridge", "up")
            self._ip("-n", host, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._ip("-n", host, "link", "set", device, "up")

    def unmake(self) -> None:
        """Remove whatever `make` has made."""
        for name in [*self._names, "switch"]:
            if Path(f"/run/netns/{self._prefix}{name}").exists():
                self._ip("netns", "delete", self._prefix + name)

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """These hosts, until the block ends."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        missing("network namespaces need root, iproute2 and util-linux")
    made = Hosts(names)
    try:
        made.make()
        yield made
    finally:
        made.unmake()
