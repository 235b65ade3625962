"""The SQLite engine: durable jobs in one file, without a broker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from ...config import Config
from ...errors import DatabaseCorrupt
from ...jobs.job import JobStatus
from ..base import Finding, PruneReport
from ..host import Host
from ..store import StoreOptions, WorkerInfo
from ..worker_locks import run_folder
from .findings import findings
from .maintenance import is_intact
from .pruning import discard, prune_now
from .recovery import ask_to_stop, live_workers
from .sender import SqliteSender
from .worker_store import SqliteStore


class SqliteEngine(SqliteSender):
    """Jobs in one SQLite file.

    host: the app, for `findings` and `prune`; None in a worker, which has not imported it.
    """

    opener: ClassVar[str] = f"{__name__}:open_engine"
    host: Host | None = None

    @classmethod
    def of(cls, host: Host) -> SqliteEngine:
        """The engine of this app."""
        config = host.config
        engine = cls(
            host.database,
            durable=config.durability == "power",
            busy_timeout=config.busy_timeout,
            force=config.sqlite_force,
            keep_cancelled=lambda task: host.keep_unsuccessful(task, JobStatus.CANCELLED),
            clock=lambda: host.clock(),
        )
        engine.host = host
        return engine

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
                " and restore a backup, or move it away to start anew"
            )

    def run_folder(self) -> Path:
        """The folder beside the database."""
        return run_folder(self.database.path)

    def prune(self, before: float | None = None) -> PruneReport:
        """Delete finished jobs, and give their space back to the file system."""
        assert self.host is not None
        return prune_now(self, self.host, before)

    def discard_many(self, ids: Sequence[str]) -> int:
        """Delete those of these jobs that have ended."""
        assert self.host is not None
        return discard(self, self.host, ids)

    def workers(self) -> Sequence[WorkerInfo]:
        """The workers that hold their locks at this moment."""
        return live_workers(self)

    def stop_worker(self, worker_id: str) -> None:
        """Ask a worker process to finish what it runs, and to stop."""
        ask_to_stop(self, worker_id)

    def findings(self) -> Iterable[Finding]:
        """What is wrong with the file, its workers and its jobs."""
        assert self.host is not None
        return findings(self, self.host)


def open_engine(database: str, config: Config) -> SqliteEngine:
    """The engine of a worker that has not imported the app."""
    return SqliteEngine(
        Path(database),
        durable=config.durability == "power",
        busy_timeout=config.busy_timeout,
        force=config.sqlite_force,
    )
