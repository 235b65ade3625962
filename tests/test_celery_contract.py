"""The Celery engine keeps the contract, on Redis and on RabbitMQ."""

from __future__ import annotations

import pytest

from brokers import Server
from celery_fixtures import rabbit, redis, workshop  # noqa: F401 (fixtures)
from celery_stage import CeleryStage, OnRabbit, OnRedis
from test_contract import *  # noqa: F403 (all its tests, with our own `kind`)
from workshop import Workshop


@pytest.fixture(params=["redis", "rabbit"])  # type: ignore[no-redef]
def kind(
    request: pytest.FixtureRequest,
    redis: Server,  # noqa: F811
    rabbit: Server,  # noqa: F811
    workshop: Workshop,  # noqa: F811
) -> type[CeleryStage]:
    """Celery on each broker in turn; the records are always on Redis."""
    stage: type[CeleryStage] = {"redis": OnRedis, "rabbit": OnRabbit}[request.param]
    stage.records, stage.workshop = redis, workshop
    stage.broker = {"redis": redis, "rabbit": rabbit}[request.param]
    return stage
