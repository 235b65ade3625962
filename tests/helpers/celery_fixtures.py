"""Fixtures of the Celery tests; each test module that imports them has servers of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from brokers import Rabbit, Redis, Server, serving
from worker_process import Workshop, open_workshop


@pytest.fixture(scope="module")
def redis(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Redis, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def rabbit(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Rabbit, tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(scope="module")
def worker_process(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(tmp_path_factory.mktemp("worker_process")) as opened:
        yield opened
