"""Helpers for the tests of apps: run jobs in the test, check what was enqueued, change the time.

They start no process and never sleep. Jobs go through the real engine, with the same tables, JSON,
limits and retries as in production.
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
