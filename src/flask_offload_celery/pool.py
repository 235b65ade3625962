"""What the processes of one Celery worker share: its seat, its clerk, and a performer in each.

Made in the main process before Celery forks its pool.
"""

from __future__ import annotations

import os
import threading

from .connections import Office
from .executor import Performer
from .maintenance import Clerk
from .worker_identity import Seat


class Crew:
    """See the module."""

    def __init__(self, office: Office, seat: Seat) -> None:
        self.office = office
        self.seat = seat
        self.clerk = Clerk(office, seat)
        self._performer: Performer | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget_parent)

    @property
    def performer(self) -> Performer:
        """This process's own."""
        with self._lock:
            if self._performer is None:
                self._performer = Performer(self.office, self.seat)
            return self._performer

    def _forget_parent(self) -> None:
        self._performer = None
        self._lock = threading.Lock()
