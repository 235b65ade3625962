"""The PostgreSQL engine: durable jobs for many machines, without a broker."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from ...config import Config
from ...errors import ConfigError
from ...jobs.job import JobRecord
from ...jobs.new_job import NewJob
from ..new_rows import concurrency_limits, rate_limits
from ..store import StoreOptions, WorkerInfo
from .connection import PgConnection
from .join import JoinedConnection, is_same_database, join
from .limits import keep_limits, lock_limits
from .recovery import live_workers
from .sender import PostgresSender
from .worker_store import PostgresStore


class PostgresCore(PostgresSender):
    """What workers and transactions need of the PostgreSQL engine. `admin` adds what operators
    ask."""

    opener: ClassVar[str] = f"{__name__}:PostgresCore.open"

    @classmethod
    def open(cls, database: str, config: Config, **given: Any) -> Self:
        """The engine with these settings, which name the database too. given: as for the
        constructor. Raises ConfigError."""
        return cls(
            _url(config),
            config.postgres_schema,
            durable=config.durability == "power",
            timeout=config.enqueue_timeout,
            direct_url=config.postgres_direct_url,
            **given,
        )

    def open_store(self, options: StoreOptions) -> PostgresStore:
        """The worker half."""
        return PostgresStore(self, options, self.run_folder())

    # --- a transaction of the app ---

    def prepare_join(self, jobs: Sequence[NewJob]) -> None:
        """Commit what must not wait for the end of the app's transaction: new queues and limits."""
        is_limited = any(
            job.concurrency_key is not None or job.rate_key is not None for job in jobs
        )
        names = {job.queue_name for job in jobs}
        self.database.ensure_migrated()
        if (
            not is_limited
            and names <= self._known_queues
            and self._known_in == self.database.generation
        ):
            return

        def work(connection: PgConnection) -> None:
            self._know_queues(connection, jobs)
            if is_limited:
                lock_limits(connection)
                keep_limits(connection, concurrency_limits(jobs), rate_limits(jobs))

        self.database.write(work)
        self._known_queues.update(names)

    def is_in(self, url: Any) -> bool:
        """Whether the jobs are in the database of this SQLAlchemy URL."""
        return is_same_database(self.database.url, url)

    def join(self, connection: Any, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs in the transaction of this SQLAlchemy connection."""
        joined = JoinedConnection(connection, self.database.names)
        return join(joined, jobs, self.clock(), self.channel)

    def run_folder(self) -> Path:
        """A folder of this user among the system's temporary files, named after the database.
        Raises ConfigError where another user has taken that name."""
        name = f"{self.database.url} {self.database.names.schema}"
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        mine = Path(tempfile.gettempdir()) / f"flask-offload-{os.getuid()}"
        with contextlib.suppress(OSError):  # it is there, or the first lock will say what is wrong
            mine.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            found = mine.lstat()
            if found.st_uid != os.getuid() or found.st_mode & 0o022 or not mine.is_dir():
                raise ConfigError(
                    f"{mine} must be a folder of this user that others can't write: remove it, or"
                    " set TMPDIR to another folder"
                )
        return mine / digest

    def workers(self) -> Sequence[WorkerInfo]:
        """The workers whose sessions hold their locks at this moment."""
        return self.database.read(live_workers)

    def stop_worker(self, worker_id: str) -> None:
        """Ask a worker process to finish what it runs, and to stop."""
        statement = "UPDATE offload.workers SET stop_asked = true WHERE id = %s"
        plain = worker_id.replace("\0", "")
        self.database.write(lambda connection: connection.execute(statement, (plain,)).rowcount)


def _url(config: Config) -> str:
    if config.postgres_url is None:
        raise ConfigError(
            "OFFLOAD_ENGINE = 'postgres' needs OFFLOAD_POSTGRES_URL, or SQLALCHEMY_DATABASE_URI"
            " with a PostgreSQL database"
        )
    return config.postgres_url
