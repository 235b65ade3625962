"""Limits, schedules, uniqueness, files, what is carried over, and logs, through real workers."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask_babel
import flask_login
import pytest
from flask import Flask, g
from opentelemetry import context, trace
from werkzeug.datastructures import FileStorage

from flask_offload import (
    JobStatus,
    NoCurrentJob,
    Offload,
    PayloadError,
    current_job,
    signals,
)
from flask_offload.engines.base import JobQuery
from flask_offload.testing import drain
from flask_offload.worker.child_handle import ChildHandle
from flask_offload.worker.messages import Channel, Crashed, FromChild
from jobs_app import (
    add,
    deaf,
    die,
    fail,
    limited,
    note,
    offload,
    only_one,
    rated,
    read_upload,
    surroundings,
    whose,
)
from jobs_server import Site, make_site
from support import wait_until


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        yield made


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.processes
def test_concurrency_is_kept_across_workers_and_blocks_no_other(site: Site) -> None:
    with site.worker(), site.worker():
        jobs = [limited.enqueue("a", str(number), 0.3) for number in range(8)]
        assert jobs[7].waiting_for == "concurrency"
        other = note.enqueue("other")
        for job in [other, *jobs]:
            job.wait(30)
    lines = site.witnessed()
    assert lines.index("other") < lines.index("in a 7")
    inside, most = 0, 0
    for line in lines:
        inside += {"in": 1, "out": -1}.get(line.split()[0], 0)
        most = max(most, inside)
    assert most == 2


@pytest.mark.processes
def test_a_rate_holds_in_a_worker(site: Site) -> None:
    """The window counts claims, and a task begins later than its claim, more so on a busy machine.
    test_store_limits.py shows that the window of the claims is strict."""
    jobs = [rated.enqueue(str(number)) for number in range(8)]
    began = time.time()
    with site.worker():
        for job in jobs:
            job.wait(40)
    starts = sorted(job.started_at.timestamp() for job in jobs if job.started_at is not None)
    assert len(starts) == 8
    assert starts[3] >= began + 2
    assert starts[6] >= began + 4


@pytest.mark.processes
def test_a_unique_job_is_one_among_processes(site: Site) -> None:
    script = textwrap.dedent("""
        import sys
        from jobs_app import create_app, only_one
        with create_app(OFFLOAD_WORKER="off").app_context():
            sys.stdin.readline()
            for _ in range(50):
                job = only_one.enqueue("x")
                print(job.id, job.is_duplicate)
    """)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script],
                    env={**os.environ, **site.env},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        lines = [
            line for process in processes for line in process.communicate(timeout=60)[0].split("\n")
        ]
    found = Counter(line.split()[1] for line in lines if line)
    assert found == {"True": 149, "False": 1}
    assert len({line.split()[0] for line in lines if line}) == 1
    site.burst()
    assert site.witnessed() == ["one x"]
    assert only_one.enqueue("x").is_duplicate is False  # the first is finished
    assert only_one.enqueue(text="x", seconds=0.0).is_duplicate is True  # however it is written


# --- schedules ---------------------------------------------------------------------------------


@pytest.mark.processes
def test_each_tick_is_enqueued_once_by_two_workers(site: Site) -> None:
    with site.worker(EVERY="1"), site.worker(EVERY="1"):
        wait_until(lambda: len(site.witnessed()) >= 4, 40, lambda: str(site.witnessed()))
        (schedule,) = site.engine.schedules()
        assert schedule.last_run is not None
        assert schedule.next_run is not None
    count = site.engine.count()
    lines = site.witnessed()
    assert len(set(lines)) == len(lines)
    fires = site.engine.list(JobQuery(limit=1000))
    assert sum(count.values()) == len(fires)
    moments = sorted(round(record.enqueued_at) for record in fires)
    assert max(Counter(moments).values()) <= 2  # a late tick and the next one in one second


# --- files -------------------------------------------------------------------------------------


@pytest.mark.processes
def test_an_upload_survives_until_its_job_is_done(site: Site) -> None:
    data = os.urandom(100_000)
    job = read_upload.enqueue(FileStorage(io.BytesIO(data), "photo.jpg"))
    folder = site.folder / "jobs.sqlite3-files"
    assert len(list(folder.iterdir())) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    site.burst()
    assert job.refresh().return_value == ("photo.jpg", data)
    assert list(folder.iterdir()) == []


def test_a_call_that_fails_leaves_no_file(site: Site) -> None:
    with pytest.raises(PayloadError):
        read_upload.enqueue(FileStorage(io.BytesIO(b"x"), "a"), "too many")  # type: ignore[call-arg]
    assert not list((site.folder / "jobs.sqlite3-files").glob("*"))


# --- carried over ------------------------------------------------------------------------------


@pytest.mark.processes
def test_what_the_app_carries_is_restored(site: Site) -> None:
    with (
        site.app.app_context(),
        site.app.test_request_context(headers={"X-Request-ID": "r-17"}),
    ):
        g.tenant = "acme"
        job = whose.enqueue()
    without = whose.enqueue()
    site.burst()
    assert job.refresh().return_value == ("acme", {"request_id": "r-17", "tenant": "acme"})
    assert without.refresh().return_value == (None, {})


@pytest.fixture
def rich_app(tmp_path: Path) -> Iterator[tuple[Flask, Offload]]:
    """An app that uses flask_babel, flask_login and OpenTelemetry."""
    app = Flask("rich", instance_path=str(tmp_path))
    app.secret_key = "not a secret"
    app.testing = True
    flask_babel.Babel(app, locale_selector=lambda: "de")
    login = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, id_: str) -> None:
            self.id = id_

    @login.user_loader  # type: ignore[untyped-decorator]
    def load(id_: str) -> User:
        return User(id_)

    made = Offload(app)
    yield app, made
    made.state_of(app).engine.close()


def test_locale_user_and_trace_come_along(rich_app: tuple[Flask, Offload]) -> None:
    app, made = rich_app
    seen: dict[str, Any] = {}

    @made.task
    def look() -> None:
        seen["locale"] = str(flask_babel.get_locale())
        seen["user"] = g._login_user.id
        seen["trace"] = trace.get_current_span().get_span_context().trace_id
        seen["carried"] = current_job.carried

    span = trace.NonRecordingSpan(
        trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    )
    with app.test_request_context():
        flask_login.login_user(app.login_manager._user_callback("7"))  # type: ignore[attr-defined]
        token = context.attach(trace.set_span_in_context(span))
        look.enqueue()
        context.detach(token)
    with app.app_context():
        drain(app)
    assert (seen["locale"], seen["user"], seen["trace"]) == ("de", "7", 0xABC)
    assert seen["carried"]["user_id"] == "7"


# --- signals and logs --------------------------------------------------------------------------


def test_signals_report_each_step(site: Site) -> None:
    heard = []

    def hear(name: str) -> object:
        def receiver(sender: object, **what: object) -> None:
            heard.append(name)

        return receiver

    names = ["enqueued", "started", "succeeded", "failed", "cancelled"]
    receivers = {name: hear(name) for name in names}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        add.enqueue(1, 1)
        fail.enqueue("x")
        add.using(run_after=timedelta(hours=1)).enqueue(1, 1).cancel()
        drain(site.app)
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    begun = ["enqueued", "enqueued", "enqueued", "cancelled"]
    assert heard == [*begun, "started", "succeeded", "started", "failed"]


@pytest.mark.processes
def test_an_app_gets_the_signals_of_crashes_and_workers(site: Site) -> None:
    job = die.enqueue("kill")
    with site.worker("--processes", "2", HEAR="1"):
        job.wait(30)
        crashed = f"crashed {job.id} killed by SIGKILL"
        site.wait_for_witness(f"{crashed} 3")
        failed = site.wait_for_witness(f"failed {job.id} the process that ran the job died", 1)
        stopped = deaf.enqueue(60)
        site.wait_for_witness("deaf")
        stopped.cancel(force=True)
        site.wait_for_witness(f"cancelled {stopped.id} the job was stopped by force", 1)
        crashes = {line for line in site.witnessed() if line.startswith("crashed")}
    assert crashes == {f"{crashed} {attempt}" for attempt in (1, 2, 3)}  # each at least once
    assert len(failed) == 1
    assert "worker started" in site.witnessed()
    assert "worker stopped" in site.witnessed()


@pytest.mark.processes
def test_an_event_that_was_announced_is_not_announced_again_after_a_kill() -> None:
    ends = socket.socketpair()
    child = ChildHandle(0, Channel(ends[0], FromChild), False, 1, 1)
    events = [Crashed("job", "task", attempt, "killed") for attempt in range(1, 5)]
    for number, event in enumerate(events, start=1):
        child.announce(event)
        assert child.unannounced[-1] == event
        if number % 2:  # a process that is killed as soon as it has announced one
            pid = os.fork()
            if pid == 0:
                child.announced.add()
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
    assert child.unannounced == events[2:]
    for end in ends:
        end.close()


def test_a_receiver_that_fails_changes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sender: object, **what: object) -> None:
        raise RuntimeError("receiver")

    job = add.enqueue(1, 1)
    with signals.started.connected_to(broken):
        drain(site.app)
    assert job.refresh().status is JobStatus.SUCCESSFUL
    assert [record.action for record in caplog.records] == ["receiver_failed"]  # type: ignore[attr-defined]


def test_log_lines_carry_the_job(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    job = fail.enqueue("first line\nsecond\x1b[31m line")
    with caplog.at_level(logging.INFO, "flask_offload"):
        drain(site.app)
    (record,) = [found for found in caplog.records if getattr(found, "action", "") == "job_failed"]
    assert record.job_id == job.id  # type: ignore[attr-defined]
    assert record.task == "jobs_app.fail"  # type: ignore[attr-defined]
    assert record.attempt == 1  # type: ignore[attr-defined]
    assert "first line\\nsecond\\x1b[31m line" in record.getMessage().splitlines()[0]
    assert "\x1b" not in record.getMessage()  # nor in the traceback below


@pytest.mark.processes
def test_a_worker_names_the_job_in_the_lines_of_its_tasks(site: Site) -> None:
    script = site.folder / "named_app.py"
    script.write_text(
        "import logging\n"
        "logging.basicConfig(format='%(message)s [%(job_id)s %(task)s %(attempt)s]', level=20)\n"
        "from jobs_app import *\n"
    )
    job = surroundings.enqueue()
    command = site.command("worker", "--burst")
    command[command.index("jobs_app")] = "named_app"
    done = subprocess.run(
        command,
        cwd=site.folder,
        env={**os.environ, **site.env, "FLASK_SERVER_NAME": "x.test"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"a line of the task [{job.id} jobs_app.surroundings 1]" in done.stderr


# What Flask's documentation shows: it silences every logger that exists already.
FLASKS_OWN = """
from logging.config import dictConfig
dictConfig({
    "version": 1,
    "formatters": {"default": {"format": "[%(levelname)s in %(module)s] %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "default"}},
    "root": {"level": "INFO", "handlers": ["err"]},
})
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "logging_set_up", [FLASKS_OWN, "", "import logging\nlogging.basicConfig()\n"]
)
def test_a_worker_logs_a_failure_once_however_the_app_logs(site: Site, logging_set_up: str) -> None:
    (site.folder / "logging_app.py").write_text(f"{logging_set_up}from jobs_app import *\n")
    job = fail.enqueue("no such address")
    command = site.command("worker", "--burst")
    command[command.index("jobs_app")] = "logging_app"
    done = subprocess.run(
        command,
        cwd=site.folder,
        env={**os.environ, **site.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = f"{job.id} of jobs_app.fail, attempt 1: failed after"
    assert done.stderr.count(told) == 1, done.stderr


def test_a_plain_call_runs_here_whatever_it_reports(site: Site) -> None:
    def report(items: list[int]) -> tuple[bool, list[int], object, str]:
        found = list(current_job.track(items, message="on the way"))
        current_job.progress(1, 2)
        current_job.check()
        current_job.checkpoint({"at": 3})
        return bool(current_job), found, current_job.cursor, current_job.id

    async def report_later() -> tuple[bool, list[int], object, str]:
        await asyncio.sleep(0)
        return report([1])

    try:
        task = offload.task(name="report")(report)
        assert task([1, 2]) == (False, [1, 2], {"at": 3}, "")
        assert asyncio.run(offload.task(name="later")(report_later)()) == (
            False,
            [1],
            {"at": 3},
            "",
        )
        with pytest.raises(TypeError):
            task()  # type: ignore[call-arg]
        assert not current_job
        with pytest.raises(NoCurrentJob):
            current_job.check()
        outer = offload.task(name="outer")(lambda: (task([1]), current_job.id)).enqueue()
        drain(site.app)
        assert outer.refresh().return_value == ((True, [1], {"at": 3}, outer.id), outer.id)
    finally:
        for name in ("report", "later", "outer"):
            offload.tasks.pop(name, None)


def test_outside_of_a_job_there_is_no_current_one() -> None:
    assert not current_job
    with pytest.raises(NoCurrentJob, match="if current_job"):
        current_job.progress(1)
    with pytest.raises(RuntimeError):  # as for Flask's own proxies
        list(current_job.track([1]))


def test_progress_in_a_tight_loop_costs_next_to_nothing(site: Site) -> None:
    @offload.task(name="tight")
    def tight(times: int) -> tuple[float, float]:
        began = time.thread_time()
        for number in range(times):
            current_job.progress(number, times)
        between = time.thread_time()
        for number in range(times):
            str(number)
        return between - began, time.thread_time() - between

    job = tight.enqueue(100_000)
    try:
        drain(site.app)
    finally:
        del offload.tasks["tight"]
    with_progress, bare = job.refresh().return_value
    assert with_progress < 100 * bare  # a write each time would cost a thousand times as much
