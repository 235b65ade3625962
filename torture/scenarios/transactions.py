"""Jobs of the app's own transactions, while its web process is killed and its database fails."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from typing import Any

from flask_offload import JobStatus
from mariadb_server import serving_mariadb
from postgres_server import serving_postgres
from proc import alive
from support import Running, answers, free_port, http_get, http_request, wait_until

from ..commit_line import CommitLine
from ..scenario import Run, scenario
from ..signup import Signup, create_app, db, offload
from ..world import PYTHON, World

APP = "torture.signup:create_app()"
CLIENTS = 8


class Site:
    """The sign-up app: its database and its jobs, a worker, and web servers when they are asked
    for. What clients know of each sign-up is in `answers`."""

    def __init__(self, world: World, kind: str, url: str) -> None:
        self.world, self.kind, self.url = world, kind, url
        self.env = {"PYTHONUNBUFFERED": "1", "FLASK_OFFLOAD_WORKER": "off"}
        if kind == "postgres, joined":
            self.env["FLASK_OFFLOAD_ENGINE"] = "postgres"
        self.answers: dict[str, int | None] = {}
        config = {key.removeprefix("FLASK_"): value for key, value in self.settings(url).items()}
        self.app = create_app(OFFLOAD_SQLITE_PATH=str(world.database), **config)
        with self.app.app_context():
            db.create_all()
            for _ in range(3):  # the rows for which transactions compete
                db.session.add(Signup(name=f"seat {_}"))
            db.session.commit()
            db.engine.dispose()
        argv = [PYTHON, "-m", "flask", "--app", APP, "offload", "worker", "--log-level", "error"]
        world.start(argv, **self.settings(url))

    def settings(self, url: str) -> dict[str, Any]:
        """Of a process whose database is at this URL."""
        return {**self.env, "FLASK_SQLALCHEMY_DATABASE_URI": url}

    def serve(self, threads: int, url: str = "", **env: str) -> tuple[Running, str]:
        """gunicorn with one process, which is replaced when it is killed."""
        port = free_port()
        where = f"http://127.0.0.1:{port}"
        words = ["--bind", f"127.0.0.1:{port}", "--preload", "--log-level", "critical"]
        argv = [PYTHON, "-m", "gunicorn", *words, "--threads", f"{threads}", APP]
        settings = {**self.settings(url or self.url), **env}
        return self.world.start(argv, ready=lambda _: answers(where), **settings), where

    def post(self, where: str, path: str, name: str, **headers: str) -> int | None:
        """Sign up, and note the answer: None if there was none."""
        try:
            answer = http_request("POST", f"{where}/{path}/{name}", headers=headers, timeout=60)
            self.answers[name] = answer.status
        except (OSError, HTTPException):
            self.answers[name] = None
        return self.answers[name]

    def judge(self, run: Run) -> None:
        """The gates, once all is quiet."""
        with self.app.app_context():
            with suppress(AssertionError):
                wait_until(self._is_quiet, 60, "all jobs to be done")
            left = offload.engine.count()
            names = set(db.session.scalars(db.select(Signup.name)))
            db.session.remove()
            db.engine.dispose()
            offload.engine.close()
        names = {name for name in names if not name.startswith("seat")}
        ran = [(words[2], words[3], words[4]) for words in self.world.lines("ran")]
        times = Counter((name, number) for _, name, number in ran)
        wanted = {(name, number) for name in names for number in ("1", "2")}
        known = {name for name, status in self.answers.items() if status == 200}
        refused = {name for name, status in self.answers.items() if status == 409}
        lost, ghosts = wanted - times.keys(), times.keys() - wanted
        twice = [what for what, number in times.items() if number > 1]
        done = left[JobStatus.SUCCESSFUL]
        what = f"{self.kind}: "
        run.figure(
            what + "sign-ups",
            f"{len(self.answers):,} begun, {len(names):,} committed ({len(names - known):,} of them"
            f" without an answer), {len(refused):,} rolled back",
        )
        run.gate(what + "no committed row without its jobs (lost)", len(lost), not lost)
        run.gate(what + "no job without its row (ghosts)", len(ghosts), not ghosts)
        run.gate(what + "no job ran twice", len(twice), not twice)
        run.gate(
            what + "each answer was true",
            f"{len(known - names)} committed, {len(refused & names)} rolled back were not",
            known <= names and not refused & names,
        )
        rest = sum(left.values()) - done
        run.gate(what + "all jobs are done", f"{done:,}, {rest} not", done == len(ran) and not rest)

    def _is_quiet(self) -> bool:
        db.session.rollback()
        transactions = offload.state_of(self.app).transactions
        outbox = transactions._outbox if transactions is not None else None
        waiting = outbox.waiting(db.engine)[0] if outbox is not None else 0
        counts = offload.engine.count()
        return not waiting and not counts[JobStatus.READY] and not counts[JobStatus.RUNNING]


@contextmanager
def _site(run: Run, kind: str) -> Iterator[Site]:
    with ExitStack() as stack:
        folder = run.new_folder()
        url = f"sqlite:///{folder / 'app.sqlite3'}"
        if kind.startswith("postgres"):
            server = stack.enter_context(serving_postgres())
            url = stack.enter_context(server.database()).replace("postgresql:", POSTGRES)
        elif kind == "mariadb":
            url = stack.enter_context(stack.enter_context(serving_mariadb()).database())
        yield Site(stack.enter_context(World(folder)), kind, url)


POSTGRES = "postgresql+psycopg:"


@scenario(
    "T27",
    "the web process is killed at each call that writes, from the flush to the relay of the jobs:"
    " pages and syncs of both databases, packets to a server, the answer to the client",
    in_ci=True,
)
def kill_in_a_transaction(run: Run) -> None:
    for kind in ("sqlite", "postgres"):
        with _site(run, kind) as site:
            _kill(run, site, run.size(10, 1000))
            site.judge(run)


@scenario(
    "T27",
    "the same with the jobs in the app's own PostgreSQL database, where their rows are written in"
    " the transaction itself, and with MariaDB as the app's database",
    only_long=True,
)
def kill_in_other_transactions(run: Run) -> None:
    for kind in ("postgres, joined", "mariadb"):
        with _site(run, kind) as site:
            _kill(run, site, run.size(10, 150))
            site.judge(run)


def _kill(run: Run, site: Site, kills: int) -> None:
    _, where = site.serve(2, LD_PRELOAD=run.shim("kill_shim"))
    pid, calls = _calls(site, where)
    points = [(number, after) for after in (0, 1) for number in range(1, calls + 1)]
    if kills < len(points):
        points = sorted(run.chance.sample(points, kills))
    killed = tried = 0
    hit: set[tuple[int, int]] = set()
    while killed < kills and tried < 2 * kills:
        point = points[tried % len(points)]
        tried += 1
        name = f"{'r' if tried % 10 == 0 else 'n'}{tried}"
        site.post(where, "signup", name, **{"X-Kill-At": f"{point[0]} {point[1]}"})
        with suppress(AssertionError):  # a relay makes a few calls more or less each time
            wait_until(functools.partial(_is_dead, pid), 0.5, "its death")
        if not alive(pid):
            killed += 1
            hit.add(point)
            pid = _next_pid(where)
    run.figure(
        f"{site.kind}: killed",
        f"{killed:,} times in {tried:,} sign-ups, at {len(hit)} of {2 * calls} points",
    )
    run.gate(f"{site.kind}: it was killed as often as planned", killed, killed >= 0.9 * kills)


def _calls(site: Site, where: str) -> tuple[int, int]:
    """The web process, and how many calls the first sign-up makes in it, as it will be in each
    that takes the place of a killed one; its relay included."""
    site.post(where, "signup", "first", **{"X-Kill-At": "0 0"})
    time.sleep(1.0)
    calls = int(http_get(f"{where}/calls").text)
    return _next_pid(where), calls


def _is_dead(pid: int) -> bool:
    return not alive(pid)


def _next_pid(where: str) -> int:
    pid = wait_until(lambda: _pid(where), 30, "the next web process")
    assert pid is not None
    return pid


def _pid(where: str) -> int | None:
    try:
        return int(http_get(f"{where}/").text)
    except (OSError, HTTPException, ValueError):
        return None


@scenario(
    "T27",
    "transactions that lock the same rows fail by deadlocks and serialization failures, and the app"
    " tries them again; connections are lost when COMMIT is sent, before and after it arrives",
    in_ci=True,
)
def failing_transactions(run: Run) -> None:
    kinds = ("sqlite", "postgres", "postgres, joined", "mariadb") if run.long else ("postgres",)
    for kind in kinds:
        with _site(run, kind) as site:
            _compete(run, site, run.size(24, 200))
            if kind != "sqlite":
                _lose_commits(run, site, run.size(40, 300))
            site.judge(run)


def _compete(run: Run, site: Site, count: int) -> None:
    _, where = site.serve(CLIENTS)
    names = [f"c{number}" for number in range(count)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        found = Counter(clients.map(lambda name: site.post(where, "retrying", name), names))
    reasons = Counter(words[2] for words in site.world.lines("retried"))
    run.figure(
        f"{site.kind}: tried again", ", ".join(f"{why}: {n:,}" for why, n in reasons.most_common())
    )
    run.figure(f"{site.kind}: answers", dict(found))
    run.gate(f"{site.kind}: transactions failed", sum(reasons.values()), bool(reasons))
    good = found[200] + found[409]
    run.gate(f"{site.kind}: each request is answered", good, good == count and found[200] > 0)


def _lose_commits(run: Run, site: Site, count: int) -> None:
    port = int(site.url.rpartition("@")[2].partition(":")[2].partition("/")[0])
    line = CommitLine(("127.0.0.1", port), run.report.seed, 0.3)
    try:
        url = site.url.replace(f":{port}/", f":{line.port}/")
        server, where = site.serve(CLIENTS, url)
        names = [f"{'r' if number % 10 == 0 else 'l'}{number}" for number in range(count)]
        with ThreadPoolExecutor(CLIENTS) as clients:
            found = Counter(clients.map(lambda name: site.post(where, "signup", name), names))
        time.sleep(1.0)  # for the relay of the last ones, which loses commits too
        server.stop()
    finally:
        line.close()
    run.figure(
        f"{site.kind}: connections lost", ", ".join(f"{way}: {n}" for way, n in line.lost.items())
    )
    run.figure(f"{site.kind}: answers while they were lost", dict(found))
    run.gate(
        f"{site.kind}: commits failed, others did not",
        f"{found[503]}, {found[200]}",
        found[503] > 0 and found[200] > 0,
    )
