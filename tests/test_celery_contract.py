"""The Celery engine keeps the contract, on Redis and on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from brokers import Rabbit, Redis, Server, serving
from celery_stage import CeleryStage, OnRabbit, OnRedis
from test_contract import *  # noqa: F403 (all its tests, with our own `kind`)
from workshop import Workshop, open_workshop


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Redis, tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(Rabbit, tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(tmp_path_factory.mktemp("workshop")) as opened:
        yield opened


@pytest.fixture(params=["redis", "rabbit"])
def kind(  # type: ignore[no-redef]
    request: pytest.FixtureRequest, redis: Server, rabbit: Server, workshop: Workshop
) -> type[CeleryStage]:
    """Celery on each broker in turn; the records are always on Redis."""
    stage: type[CeleryStage] = {"redis": OnRedis, "rabbit": OnRabbit}[request.param]
    stage.records, stage.workshop = redis, workshop
    stage.broker = {"redis": redis, "rabbit": rabbit}[request.param]
    return stage
