"""A real PostgreSQL server for tests: on a private loopback port, with its data in a folder of its
own, stopped by its process. It refuses to run as root: then it runs as its package's user."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psycopg

from proc import stopped
from support import Running, find_tool, free_port, listening, missing, running, wait_until

USER = "postgres"
_numbers = itertools.count(1)


@dataclass
class PostgresServer:
    """A server that can be stopped, killed and started again with the same data and port."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    on_host: Callable[[list[str]], list[str]] = list
    """The command that runs these words on the server's host."""
    _process: Running | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Of the database that every server has, as its superuser."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = USER) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        assert self._process is None
        options = ["-c", "max_connections=60", "-c", "shared_buffers=32MB"]
        argv = [
            *_as_user(),
            *(_program("postgres"), "-D", str(self.folder / "data")),
            *("-p", str(self.port), "-k", "", "-h", self.host, *options),
        ]
        self._process = self._stack.enter_context(running(self.on_host(argv), cwd="/", grace=0.0))
        wait_until(self._is_up, 60.0, lambda: f"this to be up: {self._process}")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.popen.poll() is not None:
            raise AssertionError(f"it ended before it was up: {self._process}")
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """As `pg_ctl stop -m immediate`: no session is ended in an orderly way."""
        assert self._process is not None
        self._process.send(signal.SIGQUIT)
        self._process.wait()
        self._stack.close()
        self._process = None

    def ensure(self) -> None:
        """Start it unless it runs."""
        if self._process is None:
            self.start()

    def close(self) -> None:
        """End it for good."""
        if self._process is not None:
            self.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block it accepts connections, as its kernel does, and never answers."""
        assert self._process is not None
        with stopped([self._process.pid, *self._process.family()]):
            yield

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the superuser; its rows."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def replica(self) -> Iterator[PostgresServer]:
        """A hot standby to which this server streams. It reports success only for what the
        standby has too."""
        with _folder() as folder:
            words = ["-D", str(folder / "data"), "-d", self.url, "-R", "-c", "fast", "-X", "stream"]
            argv = [*_as_user(), _program("pg_basebackup"), *words]
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd="/")
            standby = PostgresServer(folder, free_port())
            standby.start()
            try:
                self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                self.execute("SELECT pg_reload_conf()")
                yield standby
            finally:
                standby.close()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped at the end."""
        name = f"test{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url_of(name)
        finally:
            self.ensure()
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _program(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((str(folder / name) for folder in folders if (folder / name).exists()), None)
    return found or find_tool(name) or missing("postgresql is not installed")


def _as_user() -> list[str]:
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam(USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


@contextmanager
def serving_postgres(
    host: str = "127.0.0.1", on_host: Callable[[list[str]], list[str]] = list
) -> Iterator[PostgresServer]:
    """A server that runs until the block ends. Its folder can be reached by its user."""
    initdb = _program("initdb")
    with _folder() as folder:
        words = [initdb, "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8"]
        subprocess.run([*_as_user(), *words], check=True, stdout=subprocess.DEVNULL, cwd="/")
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        server = PostgresServer(folder, free_port(), host, on_host)
        server.start()
        try:
            yield server
        finally:
            server.close()


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder of the server's user."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, USER, USER)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def serving_pgbouncer(server: PostgresServer, mode: str) -> Iterator[str]:
    """A PgBouncer before the server's first database, in this pool mode; its URL."""
    program = find_tool("pgbouncer") or missing("pgbouncer is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            f"""[databases]
* = host=127.0.0.1 port={server.port} user={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 3
"""
        )
        if os.getuid() == 0:
            for path in (settings, folder):
                shutil.chown(path, USER, USER)
        argv = [*_as_user(), program, str(settings)]
        with running(argv, cwd="/", ready=lambda _: listening(port)):
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"


@cache
def shared_server() -> PostgresServer:
    """One server for all tests of this process, started at the first use."""
    stack = ExitStack()
    server = stack.enter_context(serving_postgres())
    atexit.register(stack.close)
    return server
