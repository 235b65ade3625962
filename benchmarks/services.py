"""Redis, RabbitMQ and Postgres for the peers: private ports on the loopback, data in a temporary
folder, as their packages configure them; ended by the process that was started here.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PATIENCE = 60.0
"""Seconds for a service to listen."""


class ServiceMissing(Exception):
    """The program is not installed, or did not start."""


def program(name: str, *folders: str) -> str:
    """Where it is. Debian keeps servers outside a user's PATH. Raises ServiceMissing."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServiceMissing(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port that no process listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes], *, patience: float = 15.0) -> None:
    """End a process that was started in a session of its own, with its children."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with suppress(ProcessLookupError):  # the session was started here: only what it left behind
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def listening(
    argv: list[str], port: int, log: Path, environ: Mapping[str, str] | None = None, user: str = ""
) -> Iterator[int]:
    """Run a server from when it listens until the end of the block; gives its process id."""
    who = {"user": user, "group": user, "extra_groups": []} if user else {}
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            env=dict(environ or os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **who,  # type: ignore[call-overload]
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_text(errors="replace")[-400:]
                    raise ServiceMissing(f"{argv[0]} did not start: {tail}") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        stop(process)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Gives its URL, to which the number of a database is to be added."""
    port = free_port()
    argv = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    argv += ["--databases", "10000"]
    with listening([*argv, "--dir", str(folder)], port, folder / "log"):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Gives its URL. Its port mapper (epmd) is started here too, or it would stay as a daemon."""
    # the wrapper in /usr/sbin wants to change the user
    server = program("rabbitmq-server", "/usr/lib/rabbitmq/bin")
    port, distribution, mapper = free_port(), free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    (folder / "plugins").write_text("[].\n")
    environ = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(mapper),
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with ExitStack() as stack:
        stack.enter_context(listening([program("epmd")], mapper, folder / "epmd.log", environ))
        stack.enter_context(listening([server], port, folder / "log", environ))
        yield f"amqp://guest:guest@127.0.0.1:{port}//"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Gives its URL. It refuses to run as root: then it runs as its package's user."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    server, initdb = program("postgres", *folders), program("initdb", *folders)
    user = "postgres" if os.getuid() == 0 else ""
    port = free_port()
    data = folder / "data"
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user, user)
    who = {"user": user, "group": user, "extra_groups": []} if user else {}
    init = [initdb, "-D", str(data), "-U", "bench", "-A", "trust", "-E", "UTF8"]
    subprocess.run(init, check=True, stdout=subprocess.DEVNULL, cwd="/", **who)  # type: ignore[call-overload]
    argv = [server, "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1"]
    with listening(argv, port, folder / "log", user=user):
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"


SERVICES = {"redis": redis, "rabbitmq": rabbitmq, "postgres": postgres}
VERSIONS = {
    "redis": ["redis-server", "--version"],
    "postgres": ["postgres", "--version"],
    "rabbitmq": ["dpkg-query", "-W", "-f", "rabbitmq-server ${Version}", "rabbitmq-server"],
}


def version(name: str) -> str:
    """What the service says it is; "" if it can't be asked."""
    argv = VERSIONS[name]
    try:
        path = program(argv[0], *glob.glob("/usr/lib/postgresql/*/bin"))
        return subprocess.run([path, *argv[1:]], capture_output=True, text=True).stdout.strip()
    except (ServiceMissing, OSError):
        return ""
