"""Processes of a Celery pool in an app with SQLAlchemy and tasks that start programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from brokers import Server
from celery_fixtures import redis  # noqa: F401 (fixture)
from postgres_server import PostgresServer, serving_postgres
from proc import alive
from support import Running, kill9, running, wait_until

pytestmark = pytest.mark.processes

APP = """
import os, subprocess, sys, time
from flask import Flask
from flask_offload import Offload
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

app = Flask("site")
app.config.from_prefixed_env()
offload = Offload(app)
if "SQLALCHEMY_DATABASE_URI" in app.config:
    db = SQLAlchemy(app)
    with app.app_context():
        db.session.execute(text("select 1"))  # before the pool is forked

@offload.task
def mine():
    ask()

@offload.task(isolate=True)
def mine_alone():
    ask()

def ask():
    db.session.execute(text("select pg_sleep(0.05)"))
    found = db.session.execute(text("select :x"), {"x": os.getpid()}).scalar()
    assert found == os.getpid(), (found, os.getpid())

def start_program():
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    with open("programs", "a") as file:
        file.write(f"{program.pid} {os.getpid()}" + chr(10))
    return program

@offload.task(on_crash="fail")
def waits():
    start_program().wait()
"""


class Site:
    def __init__(self, folder: Path, redis: Server, engine: str, **config: str) -> None:  # noqa: F811
        self.folder = folder
        (folder / "application.py").write_text(APP)
        self.env = {
            **os.environ,
            "FLASK_OFFLOAD_ENGINE": engine,
            "FLASK_CELERY": json.dumps({"broker_url": redis.url}),
            "FLASK_OFFLOAD_CELERY_PREFIX": f"{folder.name}:",
            "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            **{f"FLASK_{name}": value for name, value in config.items()},
        }

    @contextmanager
    def worker(self, *words: str) -> Iterator[Running]:
        argv = [sys.executable, "-m", "flask", "--app", "application", "offload", "worker", *words]
        with running(argv, env=self.env, cwd=self.folder) as process:
            yield process

    def run(self, code: str) -> str:
        """What a process with the app prints."""
        code = f"from application import *\nwith app.app_context():\n    {code}"
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.strip()

    def program(self) -> tuple[int, int]:
        """The program that a job has started, and the process that runs the job."""
        file = self.folder / "programs"
        line = wait_until(lambda: file.exists() and file.read_text().strip(), 40)
        program, process = map(int, str(line).split())
        return program, process


@pytest.fixture(scope="module")
def postgres(processes: None) -> Iterator[PostgresServer]:
    with serving_postgres() as server:
        yield server


@pytest.mark.parametrize("tasks", ["mine", "mine, mine_alone"], ids=["pool", "isolate"])
@pytest.mark.parametrize("engine", ["celery", "sqlite"])
def test_forks_share_no_connection_of_sqlalchemy(
    tmp_path: Path,
    redis: Server,  # noqa: F811
    postgres: PostgresServer,
    engine: str,
    tasks: str,
) -> None:
    """Also where jobs with a process of their own run beside others."""
    number = 60 if tasks == "mine" else 10
    with postgres.database() as url:
        uri = url.replace("postgresql://", "postgresql+psycopg://", 1)
        site = Site(tmp_path, redis, engine, SQLALCHEMY_DATABASE_URI=uri)
        with site.worker("--processes", "3", "--threads", "2"):
            counted = site.run(
                f"calls = [task.call() for _ in range({number}) for task in [{tasks}]];"
                "jobs = offload.enqueue_many(calls);"
                "[job.result(timeout=40) for job in jobs];"
                "print(sum(job.refresh().status == 'SUCCESSFUL' for job in jobs))"
            )
    assert int(counted) == number * len(tasks.split())


@pytest.mark.parametrize("how", ["kill", "force", "drain"])
def test_programs_of_a_job_end_with_its_process(
    tmp_path: Path,
    redis: Server,  # noqa: F811
    how: str,
) -> None:
    site = Site(tmp_path, redis, "celery")
    with site.worker("--threads", "2", "--drain-timeout", "0.5") as worker:
        job_id = site.run("print(waits.enqueue().id)")
        program, process = site.program()
        assert alive(program)
        if how == "kill":
            kill9(process)
        elif how == "force":
            site.run(f"offload.get_job('{job_id}').cancel(force=True)")
        else:
            worker.send(signal.SIGTERM)
        wait_until(lambda: not alive(program), 20, lambda: f"{program} to end: {worker}")
        wait_until(lambda: not alive(process), 20)
