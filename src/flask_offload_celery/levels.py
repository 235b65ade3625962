"""Priorities on brokers: from -100…100 to the few levels that a broker keeps apart.

RabbitMQ advises up to ten levels (https://www.rabbitmq.com/docs/priority), since each costs memory
and CPU, and Redis is asked for one list per level at every look. So there are nine: 0 by itself, as
nearly all jobs have it, and four above and below, finer near it: 1-4, 5-19, 20-49, 50-100.
Within a level the older job is first.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

STEPS: Final = (1, 5, 20, 50)
NORMAL: Final = len(STEPS)
LEVELS: Final = 2 * len(STEPS) + 1

PRIORITY_STEPS: Final = list(range(10))
"""Redis keeps a list for each of these. Nine would do, but Celery's own four (0, 3, 6, 9) are among
these ten, so that messages of other Celery code are found, too."""


def level_of(priority: int) -> int:
    """0 (lowest) to 8."""
    distance = bisect_right(STEPS, abs(priority))
    return NORMAL + distance if priority > 0 else NORMAL - distance


def broker_priority(level: int, driver: str) -> int:
    """The level as a message's priority: on Redis, 0 is the highest."""
    return LEVELS - 1 - level if driver == "redis" else level
