"""The Celery engine keeps the contract, on Redis and on RabbitMQ."""

from __future__ import annotations

import pytest
from test_contract import *  # noqa: F403 (all its tests, with our own `kind`)

from brokers import Server
from celery_environment import CeleryStage, OnRabbit, OnRedis
from celery_fixtures import rabbit, redis, worker_process  # noqa: F401 (fixtures)
from worker_process import Workshop


@pytest.fixture(params=["redis", "rabbit"])  # type: ignore[no-redef]
def kind(
    request: pytest.FixtureRequest,
    redis: Server,  # noqa: F811
    rabbit: Server,  # noqa: F811
    worker_process: Workshop,  # noqa: F811
) -> type[CeleryStage]:
    """Celery on each broker in turn; the records are always on Redis."""
    stage: type[CeleryStage] = {"redis": OnRedis, "rabbit": OnRabbit}[request.param]
    stage.records, stage.worker_process = redis, worker_process
    stage.broker = {"redis": redis, "rabbit": rabbit}[request.param]
    return stage
