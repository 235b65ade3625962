"""The SQLite engine: durable jobs in one file, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from ...config import Config
from ...errors import DatabaseCorrupt
from ..store import StoreOptions, WorkerInfo
from ..worker_locks import run_folder
from .maintenance import is_intact
from .recovery import ask_to_stop, live_workers
from .sender import SqliteSender
from .worker_store import SqliteStore


class SqliteCore(SqliteSender):
    """What workers need of the SQLite engine. `admin` adds what operators ask."""

    opener: ClassVar[str] = f"{__name__}:SqliteCore.open"

    @classmethod
    def open(cls, database: str, config: Config, **given: Any) -> Self:
        """The engine with these settings. given: as for the constructor."""
        return cls(
            Path(database),
            durable=config.durability == "power",
            busy_timeout=config.busy_timeout,
            force=config.sqlite_force,
            **given,
        )

    def open_store(self, options: StoreOptions) -> SqliteStore:
        """The worker half. A worker process refuses a damaged file (DatabaseCorrupt)."""
        if options.kind in ("kept", "command"):
            self._check_intact()
        return SqliteStore(self, options)

    def _check_intact(self) -> None:
        damage = is_intact(self)
        if damage:
            raise DatabaseCorrupt(
                f"{self.database.path} is damaged ({damage[0].splitlines()[-1]}): stop what uses it"
                " and restore a backup, or move it away to start with a new one"
            )

    def run_folder(self) -> Path:
        """The folder beside the database."""
        return run_folder(self.database.path)

    def workers(self) -> Sequence[WorkerInfo]:
        """The workers that hold their locks at this moment."""
        return live_workers(self)

    def stop_worker(self, worker_id: str) -> None:
        """Ask a worker process to finish what it runs, and to stop."""
        ask_to_stop(self, worker_id)
