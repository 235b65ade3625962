"""Who is measured. Each module of this folder offers `prepare()` and `enqueue(sent)`, and has what
its worker imports. It reads from the environment where its folder (BENCH_FOLDER) and its service
(BENCH_URL) are, and the name of its own place in it (BENCH_PLACE). A peer runs as its own
documentation starts it, with one worker process.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = "benchmarks.peers"


@dataclass(frozen=True)
class Peer:
    """One way to run something later.

    module: its file in this folder. package: whose version counts. service: what it needs.
    worker: what follows `python -m`; none if it needs no worker. keeps: what an accepted job
    survives. drain: how many jobs it is given to drain (the slow ones fewer).
    """

    name: str
    module: str
    package: str
    keeps: str
    worker: tuple[str, ...] = ()
    service: str | None = None
    drain: int = 1000
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_flask_offload(self) -> bool:
        """Whether it is Flask-Offload."""
        return self.name.startswith("offload-")

    @property
    def is_floor(self) -> bool:
        """Whether it is bare SQLite."""
        return self.name.startswith("sqlite")

    @property
    def version(self) -> str:
        """Of its package. Raises PackageNotFoundError."""
        if self.package == "python":
            return platform.python_version()
        return importlib.metadata.version(self.package)

    def environment(self, folder: Path, url: str | None) -> dict[str, str]:
        """What its processes need to know."""
        return {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "BENCH_PEER": self.name,
            "BENCH_FOLDER": str(folder),
            "BENCH_PLACE": folder.name,
            "BENCH_NOTES": str(folder / "notes"),
            "BENCH_URL": url or "",
            **self.environ,
        }

    def load(self) -> Any:
        """Its module."""
        return importlib.import_module(f"{HERE}.{self.module}")


_WORKER = (
    "flask",
    "--app",
    f"{HERE}.flask_offload_peer",
    "offload",
    "worker",
    "--log-level",
    "error",
)
_CELERY = ("celery", "-A", f"{HERE}.celery_peer", "worker", "-c", "1", "-l", "ERROR")

PEERS = (
    Peer(
        "offload-power",
        "flask_offload_peer",
        "Flask-Offload",
        "power cut",
        _WORKER,
        drain=10_000,
        environ={"FLASK_OFFLOAD_DURABILITY": "power"},
    ),
    Peer(
        "offload-process",
        "flask_offload_peer",
        "Flask-Offload",
        "crash",
        _WORKER,
        drain=10_000,
        environ={"FLASK_OFFLOAD_DURABILITY": "process"},
    ),
    Peer(
        "sqlite-power",
        "sqlite_floor",
        "apsw",
        "power cut",
        (f"{HERE}.sqlite_floor",),
        drain=3000,
        environ={"BENCH_SYNCHRONOUS": "FULL"},
    ),
    Peer(
        "sqlite-process",
        "sqlite_floor",
        "apsw",
        "crash",
        (f"{HERE}.sqlite_floor",),
        drain=10_000,
        environ={"BENCH_SYNCHRONOUS": "NORMAL"},
    ),
    Peer("thread", "thread", "python", "nothing", drain=10_000),
    Peer(
        "huey-sqlite",
        "huey_sqlite",
        "huey",
        "crash",
        ("huey.bin.huey_consumer", f"{HERE}.huey_sqlite.huey", "-q"),
        drain=3000,
    ),
    Peer(
        "huey-sqlite-fsync",
        "huey_sqlite",
        "huey",
        "power cut",
        ("huey.bin.huey_consumer", f"{HERE}.huey_sqlite.huey", "-q"),
        drain=3000,
        environ={"BENCH_FSYNC": "1"},
    ),
    Peer(
        "huey-redis",
        "huey_redis",
        "huey",
        "crash",
        ("huey.bin.huey_consumer", f"{HERE}.huey_redis.huey", "-q"),
        "redis",
        5000,
    ),
    Peer(
        "rq",
        "rq_peer",
        "rq",
        "crash",
        (f"{HERE}.rq_peer",),
        "redis",
        500,
    ),
    Peer(
        "dramatiq",
        "dramatiq_peer",
        "dramatiq",
        "crash",
        ("dramatiq", f"{HERE}.dramatiq_peer", "--processes", "1", "--threads", "4"),
        "redis",
        3000,
    ),
    Peer("celery-redis", "celery_peer", "celery", "crash", _CELERY, "redis", 2000),
    Peer("celery-rabbitmq", "celery_peer", "celery", "crash", _CELERY, "rabbitmq", 2000),
    Peer(
        "taskiq",
        "taskiq_peer",
        "taskiq",
        "crash",
        ("taskiq", "worker", f"{HERE}.taskiq_peer:broker", "--workers", "1"),
        "redis",
        2000,
    ),
    Peer(
        "offload-postgres",
        "flask_offload_peer",
        "Flask-Offload",
        "power cut",
        _WORKER,
        "postgres",
        5000,
        environ={"FLASK_OFFLOAD_ENGINE": "postgres"},
    ),
    Peer(
        "procrastinate",
        "procrastinate_peer",
        "procrastinate",
        "power cut",
        (
            *("procrastinate", "--app", f"{HERE}.procrastinate_peer.app"),
            *("worker", "--concurrency", "4"),
        ),
        "postgres",
        500,
    ),
    Peer(
        "pgqueuer",
        "pgqueuer_peer",
        "pgqueuer",
        "power cut",
        ("pgqueuer", "run", f"{HERE}.pgqueuer_peer:main"),
        "postgres",
        2000,
    ),
    Peer(
        "django-tasks-db-postgres",
        "django_peer",
        "django-tasks-db",
        "power cut",
        ("django", "db_worker"),
        "postgres",
        300,
        environ={"DJANGO_SETTINGS_MODULE": f"{HERE}.django_settings"},
    ),
    Peer(
        "django-tasks-db",
        "django_peer",
        "django-tasks-db",
        "crash",
        ("django", "db_worker"),
        drain=300,
        environ={"DJANGO_SETTINGS_MODULE": f"{HERE}.django_settings"},
    ),
    Peer(
        "dbos",
        "dbos_peer",
        "dbos",
        "power cut",
        (f"{HERE}.dbos_peer",),
        drain=100,
    ),
    Peer("honker", "honker_peer", "honker", "crash", (f"{HERE}.honker_peer",), drain=500),
    Peer(
        "flashq",
        "flashq_peer",
        "flashq",
        "crash",
        ("flashq", "worker", f"{HERE}.flashq_peer:app", "--log-level", "warning"),
        drain=100,
    ),
)
ON_CELERY = tuple(
    Peer(
        f"offload-celery-{broker}",
        "flask_offload_peer",
        "Flask-Offload",
        "crash",
        _WORKER,
        broker,
        environ={"FLASK_OFFLOAD_ENGINE": "celery"},
    )
    for broker in ("redis", "rabbitmq")
)
"""Flask-Offload on the other engine: measured by `benchmarks.engines`, beside `offload-power`."""
WITH_RESULTS = tuple(
    Peer(
        f"celery-{name}-results",
        "celery_peer",
        "celery",
        "crash",
        ("celery", "-A", f"{HERE}.celery_peer", "worker", "-c", "4", "-l", "ERROR"),
        name.partition("-")[0],
        environ={"BENCH_CONFIRM": "1"} if name.endswith("-confirmed") else {},
    )
    for name in ("redis", "rabbitmq", "rabbitmq-confirmed")
)
"""Plain Celery for `benchmarks.engines`: with a result backend, and as many processes."""

BY_NAME: Mapping[str, Peer] = {peer.name: peer for peer in (*PEERS, *ON_CELERY, *WITH_RESULTS)}
