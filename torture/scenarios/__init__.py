"""The scenarios, in the order in which they are run."""

from . import storm  # noqa: F401
