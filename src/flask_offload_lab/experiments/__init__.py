"""What the lab's pages let the reader run: each experiment is a generator of events.

An event is a dict that goes to the page as one line of JSON, when it happens; {"status": text} is
progress in words. Times are in ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]
Events = Iterator[Event]
