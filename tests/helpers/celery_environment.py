"""The Celery engine on the contract suite's stage, on Redis and on RabbitMQ."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from brokers import Server
from engine_contract import Stage
from support import APP_PATH, Running, running
from worker_process import Workshop

WORKER = ("--app", "contract_app", "offload", "worker")


class CeleryStage(Stage):
    """Records in Redis, real Celery workers. The servers are shared; each stage has a prefix."""

    broker: ClassVar[Server]
    records: ClassVar[Server]
    worker_process: ClassVar[Workshop]
    config: ClassVar[dict[str, Any]] = {"OFFLOAD_ENGINE": "celery"}

    def __init__(self, folder: Path, **config: Any) -> None:
        prefix = f"{uuid.uuid4().hex[:8]}:"
        super().__init__(
            folder,
            CELERY={"broker_url": self.broker.url},
            OFFLOAD_CELERY_RECORDS=self.records.url,
            OFFLOAD_CELERY_PREFIX=prefix,
            **config,
        )

    def work(self, *, threads: int = 4) -> None:
        arguments = (*WORKER, "--in-this-process", "--burst", "--threads", str(threads))
        with self.worker_process.flask(
            *arguments, env=self._environment(), cwd=self.folder
        ) as worker:
            # from here on it has nothing to do, and Celery's pool takes long to say goodbye
            worker.wait_for("Warm shutdown", 60)

    @contextmanager
    def worker(self) -> Iterator[Running]:
        command = [sys.executable, "-m", "flask", *WORKER, "--threads", "4"]
        environment = {**self._environment(), "PYTHONPATH": APP_PATH}
        with running(command, env=environment, cwd=self.folder) as process:
            yield process

    def _environment(self) -> dict[str, str]:
        return {
            f"FLASK_{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in self.settings.items()
        }


class OnRedis(CeleryStage):
    """Broker and records on one Redis."""


class OnRabbit(CeleryStage):
    """Messages on RabbitMQ, records on Redis."""
