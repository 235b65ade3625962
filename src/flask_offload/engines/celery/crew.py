"""What the processes of one Celery worker share: its seat, its clerk, and a performer in each.

Made in the main process before Celery forks its pool.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from .clerk import Clerk
from .performer import Performer
from .seat import Seat

if TYPE_CHECKING:
    from ...host import Host
    from .engine import CeleryEngine


class Crew:
    """See the module."""

    def __init__(self, engine: CeleryEngine, host: Host, seat: Seat) -> None:
        self.seat = seat
        self.clerk = Clerk(engine, host, seat)
        self._engine = engine
        self._host = host
        self._performer: Performer | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget_parent)

    @property
    def performer(self) -> Performer:
        """This process's own."""
        with self._lock:
            if self._performer is None:
                self._performer = Performer(self._engine, self._host, self.seat)
            return self._performer

    def _forget_parent(self) -> None:
        self._performer = None
        self._lock = threading.Lock()
