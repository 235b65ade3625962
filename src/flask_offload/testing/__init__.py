"""For the tests of apps: run jobs in the test itself, see what was enqueued, travel in time.

Nothing here starts a process or sleeps. The jobs go through the real engine: the same tables, the
same JSON, the same limits and retries as in production.
"""

from ..profiler.gate import BlockingCall, no_blocking
from .clock import Clock
from .drain import drain, travel
from .enqueued import assert_enqueued, assert_not_enqueued, enqueued
from .jobs import AppJobs

__all__ = [
    "AppJobs",
    "BlockingCall",
    "Clock",
    "assert_enqueued",
    "assert_not_enqueued",
    "drain",
    "enqueued",
    "no_blocking",
    "travel",
]
