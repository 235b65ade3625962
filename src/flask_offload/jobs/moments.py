"""Stored times as datetimes."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def moment(seconds: float | None) -> datetime | None:
    """Unix seconds as an aware datetime in UTC; what no calendar can show becomes its first or last
    day, so that no stored number makes a job unreadable."""
    if seconds is None or math.isnan(seconds):
        return None
    return datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC)


_FIRST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_LAST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
