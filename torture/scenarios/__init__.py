"""The scenarios, in the order in which they are run."""

from . import storm, recovery, syscalls, moments, stopped, poison, storage, held, damage  # noqa: F401, I001
from . import odd_values, odd_hosts, identity, clock, deploy, backlog, mutation, suites  # noqa: F401
from . import transactions  # noqa: F401
