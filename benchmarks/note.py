"""The task that all peers run: it appends when it was sent and when it started to one file.

Lines have one length, so that the size of the file says how many jobs have started. The clock is
the monotonic one, which all processes of a machine share.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

VARIABLE = "BENCH_NOTES"
LINE = 36


@functools.cache
def _descriptor() -> int:
    return os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(sent: float) -> None:
    """Append `sent started`, in one write."""
    os.write(_descriptor(), b"%017.6f %017.6f\n" % (sent, time.monotonic()))


class Notes:
    """The file, as somebody who waits for jobs reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def clear(self) -> None:
        """Forget all."""
        os.truncate(self.path, 0)

    def count(self) -> int:
        """How many jobs have started."""
        return os.stat(self.path).st_size // LINE

    def wait(self, count: int, timeout: float, pause: float = 0.001) -> bool:
        """Until so many have started; False if that takes longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.count() < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
        return True

    def read(self) -> list[tuple[float, float]]:
        """(sent, started) of every job, in the order of their starts."""
        lines = self.path.read_text().splitlines()
        pairs = [line.split() for line in lines]
        return sorted(((float(a), float(b)) for a, b in pairs), key=lambda pair: pair[1])
