"""The pytest plugin: one fixture. Everything else is imported when a test uses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import AppJobs


@pytest.fixture
def offload_jobs(request: pytest.FixtureRequest) -> Iterator[AppJobs]:
    """The jobs of the app that your fixture `app` returns; there are none at first.

    `list(offload_jobs)`, `len(offload_jobs)`, `offload_jobs.drain()`, `offload_jobs.travel(…)`.
    """
    from .testing import AppJobs

    jobs = AppJobs(request.getfixturevalue("app"))
    jobs.clear()
    yield jobs
    jobs.close()
