"""A limit on polling, kept in the memory of each web process."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable

MAX_KEYS = 10_000
"""Clients that are remembered; beyond that the ones that asked longest ago are forgotten."""

BURST_SECONDS = 2.0
"""A client that has been quiet may ask as often at once as it may in this time."""


class PollLimiter:
    """At most `rate` requests per second for each key, after a first burst.

    The generic cell rate algorithm (ITU-T I.371): one number per key, the moment at which the
    requests made so far would have been due at an even pace.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._due: OrderedDict[Hashable, float] = OrderedDict()
        self._max_keys = max_keys
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._due)

    def check(self, key: Hashable, rate: float, now: float) -> int:
        """Count a request; gives 0 if it may go on, else the seconds (whole ones) to wait.

        rate: requests per second; 0 for no limit. now: seconds of a monotonic clock.
        """
        if not rate:
            return 0
        with self._lock:
            due = max(self._due.pop(key, now), now)
            early = due - now - BURST_SECONDS
            refused = early > 1e-9
            self._due[key] = due if refused else due + 1 / rate  # now the youngest
            if len(self._due) > self._max_keys:
                self._due.popitem(last=False)
        return max(1, math.ceil(early)) if refused else 0
