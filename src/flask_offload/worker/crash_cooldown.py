"""How long ago a process died: a quarantined job does not start while others may follow."""

from __future__ import annotations

COOLDOWN = 3.0
"""Seconds without a death after which it is over."""
LONGEST_COOLDOWN = 60.0
"""Seconds after which it is over for a moment although processes go on dying, so that no job
waits forever."""


class CrashCooldown:
    """The time since the last crash that a worker has seen. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._until = self._at_most = float("-inf")

    def note(self, now: float) -> None:
        """A process has died in which jobs ran together."""
        if now >= self._until:
            self._at_most = now + LONGEST_COOLDOWN
        self._until = min(now + COOLDOWN, self._at_most)

    def left(self, now: float) -> float:
        """Seconds until it is over; 0 if it is."""
        return max(0.0, self._until - now)
