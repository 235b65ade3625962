"""Pages for operators, closed by default: jobs, queues, schedules and workers."""

from .blueprint import install

__all__ = ["install"]
