"""A real MariaDB server for tests: on a private loopback port, with its data in a folder of its
own, stopped by its process."""

from __future__ import annotations

import getpass
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql

from support import find_tool, free_port, missing, running, wait_until

_numbers = itertools.count(1)


class MariadbServer:
    """A server that accepts connections of root without a password."""

    def __init__(self, port: int) -> None:
        self.port = port

    def execute(self, statement: str) -> None:
        """Run a statement as root."""
        connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root")
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()

    def is_up(self) -> bool:
        """Whether it accepts connections."""
        try:
            self.execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    @contextmanager
    def database(self) -> Iterator[str]:
        """The SQLAlchemy URL of a new, empty database, which is dropped at the end."""
        name = f"test{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}"
        finally:
            self.execute(f"DROP DATABASE {name}")


@contextmanager
def serving_mariadb() -> Iterator[MariadbServer]:
    """A server that runs until the block ends."""
    program = find_tool("mariadbd") or find_tool("/usr/sbin/mariadbd")
    if program is None:
        missing("mariadb-server-core is not installed")
    folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
    try:
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data"]
        user = f"--user={getpass.getuser()}"
        words = [*install, user, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server = MariadbServer(free_port())
        argv = [
            *(program, "--no-defaults", f"--datadir={folder}/data", user),
            *(f"--socket={folder}/socket", f"--port={server.port}", "--bind-address=127.0.0.1"),
            *(f"--pid-file={folder}/pid", "--innodb-buffer-pool-size=32M"),
            *("--innodb-log-file-size=16M", "--skip-name-resolve"),
        ]
        with running(argv, cwd="/", grace=10.0):
            wait_until(server.is_up, 60.0, "MariaDB is up")
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
