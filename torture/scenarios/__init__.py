"""The scenarios, in the order in which they are run."""

from . import storm, recovery, stopped, poison  # noqa: F401, I001
