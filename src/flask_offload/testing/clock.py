"""A clock for tests, which changes only when it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..errors import OptionError


class Clock:
    """A constant time until `move`; made by `travel`."""

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        """The time in unix seconds."""

    def __call__(self) -> float:
        """The time in unix seconds."""
        return self.seconds

    @property
    def now(self) -> datetime:
        """The time as a datetime (UTC)."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def move(self, to: timedelta | datetime) -> None:
        """Move it by a timedelta, which may be negative, or to an aware datetime.

        Raises OptionError for a naive one.
        """
        self.seconds = self.moment(to)

    def moment(self, to: timedelta | datetime) -> float:
        """The unix seconds to which `move` would move it."""
        if isinstance(to, timedelta):
            return self.seconds + to.total_seconds()
        if to.utcoffset() is None:
            raise OptionError(f"{to!r} has no time zone: give an aware datetime, or a timedelta.")
        return to.timestamp()
