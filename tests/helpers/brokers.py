"""Real Redis and RabbitMQ servers for tests: on private loopback ports, with their data in a folder
of their own, stopped by their process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proc import stopped
from support import Running, find_tool, free_port, listening, missing, running


@dataclass
class Server:
    """A broker that can be killed and started again with the same data and the same port."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    _process: Running | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """As Celery's broker_url."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._process is None
        self._process = self._stack.enter_context(self._run())

    def kill(self) -> None:
        """As `kill -9` does, children included."""
        assert self._process is not None
        self._process.kill_family()
        self._stack.close()
        self._process = None

    def ensure(self) -> None:
        """Start it unless it runs."""
        if self._process is None:
            self.start()

    def close(self) -> None:
        """End it for good."""
        if self._process is not None:
            self.kill()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block it accepts connections, as its kernel does, and never answers."""
        assert self._process is not None
        with stopped([self._process.pid, *self._process.family()]):
            yield

    def _run(self) -> AbstractContextManager[Running]:
        raise NotImplementedError


class Redis(Server):
    """Every accepted write is in its append-only file before it is answered."""

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def _run(self) -> AbstractContextManager[Running]:
        program = find_tool("redis-server") or missing("redis-server is not installed")
        options = {
            "--port": self.port,
            "--bind": self.host,
            "--dir": self.folder,
            "--appendonly": "yes",
            "--appendfsync": "always",  # else answered writes may wait for the disk
            "--save": "",
            "--protected-mode": "no",
        }
        words = [program, *(str(word) for pair in options.items() for word in pair)]
        return running(self.program(words), ready="Ready to accept connections", grace=2.0)

    def program(self, words: list[str]) -> list[str]:
        """The command that runs the server."""
        return words


class Rabbit(Server):
    """A node of its own, with a port mapper of its own."""

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}//"

    def _run(self) -> AbstractContextManager[Running]:
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        if not found:
            missing("rabbitmq-server is not installed")
        mapper = self.folder / "mapper-port"
        if not mapper.exists():
            mapper.write_text(str(free_port()))
        (self.folder / "plugins").write_text("[].")
        name = f"test{self.port}@{socket.gethostname().partition('.')[0]}"
        environment = {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": mapper.read_text(),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        return running(
            [found[-1]],
            env=environment,
            ready=lambda _: listening(self.port),
            timeout=90.0,
            grace=0.5,
        )


@contextmanager
def serving(kind: type[Server], folder: Path) -> Iterator[Server]:
    """A server that runs until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    server = kind(folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.close()
