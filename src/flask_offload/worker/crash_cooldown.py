"""Whether processes have died lately: no time for a job that may not be hit again."""

from __future__ import annotations

CALM_AFTER = 3.0
"""Seconds without a death after which all is calm again."""
UNREST_MOST = 60.0
"""Seconds after which it counts as calm for a moment, though processes go on dying: nobody waits
for ever."""


class Unrest:
    """The deaths that a worker has seen of late. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._until = self._at_most = float("-inf")

    def note(self, now: float) -> None:
        """A process has died that shared itself among jobs."""
        if now >= self._until:
            self._at_most = now + UNREST_MOST
        self._until = min(now + CALM_AFTER, self._at_most)

    def left(self, now: float) -> float:
        """Seconds until all is calm; 0 if it is."""
        return max(0.0, self._until - now)
