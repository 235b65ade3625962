"""The log of a job: which lines are its own, and what no line can do."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import logging.config
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from flask import Flask

from flask_offload import Job, LogLine, Offload
from flask_offload.jobs.attempt import Report, latest
from flask_offload.jobs.job_log import MAX_ATTEMPTS, MAX_LINE, MAX_LOG, AttemptLog
from flask_offload.jobs.log_line import log_lines
from flask_offload.testing import drain

lib = logging.getLogger("job_log_tests")


class Bench:
    """An app whose one task calls what a test gives."""

    def __init__(self, engine: str, **config: Any) -> None:
        self.app = Flask("bench")
        self.app.config.update(TESTING=True, OFFLOAD_ENGINE=engine, OFFLOAD_WORKER="off", **config)
        self.offload = Offload(self.app)
        self.calls: list[Callable[[], Any]] = []

        @self.offload.task(name="bench", max_attempts=20)
        def bench(number: int) -> None:
            self.calls[number]()

        self.task = bench

    def job(self, call: Callable[[], Any]) -> Job:
        self.calls.append(call)
        with self.app.app_context():
            job = self.task.enqueue(len(self.calls) - 1)
            drain(self.app)
            return job.refresh()

    def log(self, call: Callable[[], Any]) -> list[LogLine]:
        with self.app.app_context():
            return self.job(call).log

    def messages(self, call: Callable[[], Any]) -> list[str]:
        return [line.message for line in self.log(call)]

    def close(self) -> None:
        self.offload.state_of(self.app).engine.close()


@pytest.fixture(params=["inline", "sqlite"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param)
    yield bench
    bench.close()


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Undo what a test does to `logging`."""
    level, disabled, root = lib.level, logging.root.manager.disable, logging.root.level
    yield
    lib.setLevel(level)
    logging.root.setLevel(root)
    logging.disable(disabled)
    lib.handlers.clear()
    lib.filters.clear()
    lib.propagate, lib.disabled = True, False


# --- which lines ---------------------------------------------------------------------------------


def test_the_levels_are_those_of_the_app(bench: Bench) -> None:
    def call() -> None:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            lib.log(level, "%s", level)

    lib.setLevel(logging.INFO)
    assert bench.messages(call) == ["20", "30"]
    logging.disable(logging.INFO)
    assert bench.messages(call) == ["30"]


def test_a_logger_without_handlers_and_one_that_does_not_propagate(bench: Bench) -> None:
    lib.propagate = False
    assert bench.messages(lambda: lib.warning("alone")) == ["alone"]


def test_logging_may_be_configured_anew_inside_of_a_job(bench: Bench) -> None:
    def call() -> None:
        lib.warning("before")
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        lib.warning("after")

    assert bench.messages(call) == ["before", "after"]


def test_filters_of_loggers_and_handlers_have_looked_at_a_line(bench: Bench) -> None:
    class Masking(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            record.msg, record.args = str(record.msg).replace("sk-1", "…"), None
            return True

    handler = logging.NullHandler()
    handler.handle = lambda record: bool(Masking().filter(record))  # type: ignore[method-assign]
    lib.addHandler(handler)
    assert bench.messages(lambda: lib.warning("key sk-1")) == ["key …"]
    lib.addFilter(lambda record: "noise" not in record.getMessage())
    assert bench.messages(lambda: list(map(lib.warning, ("noise", "kept")))) == ["kept"]


def test_the_lines_of_others_are_not_a_jobs_own(bench: Bench) -> None:
    lib.warning("outside")

    def call() -> None:
        other = threading.Thread(target=lib.warning, args=("a thread of its own",))
        with_job = threading.Thread(target=copy_context().run, args=(lib.warning, "in its context"))
        for thread in (other, with_job):
            thread.start()
            thread.join()
        bench.app.logger.warning("the job")

    assert bench.messages(call) == ["in its context", "the job"]


def test_a_thread_that_outlives_its_job_adds_nothing(bench: Bench) -> None:
    ended, gone = threading.Event(), threading.Event()

    def late() -> None:
        ended.wait(10)
        lib.warning("too late")
        gone.set()

    def call() -> None:
        lib.warning("in time")
        threading.Thread(target=copy_context().run, args=(late,)).start()

    job = bench.job(call)
    ended.set()
    assert gone.wait(10)
    with bench.app.app_context():
        assert [line.message for line in job.refresh().log] == ["in time"]


def test_async_tasks_and_jobs_in_jobs(bench: Bench) -> None:
    async def speak() -> None:
        lib.warning("async")
        await asyncio.to_thread(lib.warning, "in a thread")

    assert bench.messages(lambda: asyncio.run(speak())) == ["async", "in a thread"]


def test_nothing_is_kept_of_a_plain_call_or_with_zero_lines() -> None:
    bench = Bench("inline", OFFLOAD_KEEP_LOG=0)
    assert bench.log(lambda: lib.warning("x")) == []
    bench.calls.append(lambda: lib.warning("x"))
    with bench.app.app_context():
        bench.task(1)


# --- what a line may be --------------------------------------------------------------------------


class Bad:
    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (("%s",), "%s"),
        (("%d", "x"), "%d (can't be formatted: TypeError)"),
        (("%s %s", 1), "%s %s (can't be formatted: TypeError)"),
        (("%s", Bad(ValueError)), "%s (can't be formatted: ValueError)"),
        (("%s", Bad(SystemExit)), "%s (can't be formatted: SystemExit)"),
        ((Bad(ValueError),), "(its __str__ raised ValueError) (can't be formatted: ValueError)"),
        ((b"\xff\0",), r"b'\xff\x00'"),
        (("\ud800\0ü",), "\\ud800\\0ü"),
        (("two\nlines",), "two\nlines"),
        ((None,), "None"),
        (("x" * 2 * MAX_LINE,), "x" * (MAX_LINE - 1) + "…"),
    ],
    ids=range(11),
)
def test_whatever_is_logged_the_job_goes_on(
    bench: Bench, arguments: tuple[Any, ...], kept: str
) -> None:
    lib.propagate = False
    lib.addHandler(logging.NullHandler())
    assert bench.messages(lambda: lib.warning(*arguments)) == [kept]


def test_a_str_that_logs_adds_no_lines_without_end(bench: Bench) -> None:
    class Logs:
        def __str__(self) -> str:
            lib.warning("from __str__")
            return "itself"

    lib.propagate = False
    lib.addHandler(logging.NullHandler())
    assert bench.messages(lambda: lib.warning("%s", Logs())) == ["itself"]


def test_a_handler_that_raises_and_one_that_logs(bench: Bench) -> None:
    def call() -> None:
        with contextlib.suppress(ZeroDivisionError):
            lib.warning("kept all the same")

    class Raising(logging.NullHandler):
        def handle(self, record: logging.LogRecord) -> bool:
            logging.getLogger("another").warning("from a handler")
            raise ZeroDivisionError

    lib.addHandler(Raising())
    assert bench.messages(call) == ["kept all the same"]


def test_exceptions_and_stacks_come_with_their_line(bench: Bench) -> None:
    def call() -> None:
        try:
            raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
        except ExceptionGroup:
            lib.exception("caught")
        lib.warning("here", stack_info=True)
        lib.warning("none", exc_info=True)

    caught, here, none = bench.messages(call)
    assert "ValueError: one" in caught
    assert "in call" in here
    assert none == "none"


# --- bounds --------------------------------------------------------------------------------------


def test_the_last_lines_are_kept() -> None:
    def call() -> None:
        for number in range(1, 101):
            lib.warning("%d", number)

    bench = Bench("sqlite", OFFLOAD_KEEP_LOG=7)
    log = bench.log(call)
    bench.close()
    assert [(line.number, line.message) for line in log] == [(n, str(n)) for n in range(94, 101)]


def test_huge_lines_leave_no_room_for_many(bench: Bench) -> None:
    def call() -> None:
        for _ in range(50):
            lib.warning("ü" * 5 * MAX_LINE)

    log = bench.log(call)
    assert sum(len(line.message.encode()) for line in log) <= MAX_LOG
    assert log[-1].number == 50


def test_attempts_keep_their_lines_until_there_are_too_many(bench: Bench) -> None:
    attempts = iter(range(1, 100))

    def call() -> None:
        attempt = next(attempts)
        lib.warning("attempt %d", attempt)
        if attempt < 15:
            raise ValueError

    kept = [f"attempt {number}" for number in range(16 - MAX_ATTEMPTS, 16)]
    assert bench.messages(call) == kept


def test_many_threads_write_at_once() -> None:
    log = AttemptLog(10_000)

    def add() -> None:
        for _ in range(500):
            log.add(0.0, "INFO", "x", "y")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = log.take()
    assert stored is not None
    lines = log_lines([(1, stored)])
    assert lines[-1].number == 2000
    assert len(lines) == lines[-1].number - lines[0].number + 1


def test_the_last_report_of_an_attempt_carries_the_newest_log() -> None:
    reports = [
        Report(1, 1, 1.0, None, None, None, "[1]"),
        Report(2, 1, 1.0, None, None, None),
        Report(1, 1, 2.0, None, None, None, "[2]"),
        Report(1, 1, 3.0, None, "m", "c"),
        Report(1, 2, None, None, None, None, "[3]"),
    ]
    assert latest(reports) == [
        Report(1, 1, 3.0, None, "m", "c", "[2]"),
        Report(2, 1, 1.0, None, None, None),
        Report(1, 2, None, None, None, None, "[3]"),
    ]


# --- what is printed -----------------------------------------------------------------------------


def printed(call: Callable[[], Any]) -> list[tuple[str, str]]:
    bench = Bench("inline", OFFLOAD_CAPTURE_PRINT=True)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        log = bench.log(call)
        print("outside")
    finally:
        sys.stdout, sys.stderr = before
    assert {line.level for line in log} <= {"PRINT", "WARNING"}
    return [(line.logger, line.message) for line in log]


def test_print_is_kept_if_asked() -> None:
    def call() -> None:
        print("one", 2)
        print("no end", end="")
        print(" yet", "\n\nthree", file=sys.stderr)
        print("\r10 %\r50 %", end="\r")
        print("100 %")
        sys.stdout.writelines(["a\n", "b"])

    assert printed(call) == [
        ("stdout", "one 2"),
        ("stderr", " yet "),
        ("stderr", ""),
        ("stderr", "three"),
        ("stdout", "100 %"),
        ("stdout", "a"),
        ("stdout", "b"),
    ]


def test_a_line_that_a_handler_prints_is_kept_once() -> None:
    def call() -> None:
        lib.addHandler(logging.StreamHandler(sys.stdout))
        lib.warning("logged")
        print("printed")

    assert printed(call) == [("job_log_tests", "logged"), ("stdout", "printed")]


def test_print_is_not_kept_otherwise(bench: Bench) -> None:
    assert bench.messages(lambda: print("not asked for")) == []


def test_a_flood_without_an_end_of_line_stays_small() -> None:
    def call() -> None:
        for _ in range(100):
            sys.stdout.write("x" * 100_000)

    ((_, line),) = printed(call)
    assert len(line) == MAX_LINE


# --- who sees it ---------------------------------------------------------------------------------


def test_the_public_resource_never_shows_it(bench: Bench) -> None:
    job = bench.job(lambda: lib.warning("secret-line"))
    client = bench.app.test_client()
    for accept in ("application/json", "text/html", "*/*"):
        answer = client.get(f"/offload/jobs/{job.id}", headers={"Accept": accept})
        assert answer.status_code == 200
        assert b"secret-line" not in answer.data


def test_the_command_shows_it(bench: Bench) -> None:
    def call() -> None:
        for number in range(1, 301):
            lib.warning("line %d\n\x1b[31mred", number)

    job = bench.job(call)
    quiet = bench.job(lambda: None)
    run = bench.app.test_cli_runner().invoke
    shown = run(args=["offload", "job", job.id, "--log", "--follow"])
    assert shown.exit_code == 0, shown.output
    first, second, third, *_ = shown.output.splitlines()
    assert first == "(100 lines before are not kept)"
    assert second.endswith("WARNING job_log_tests: line 101")
    assert third == "    \\x1b[31mred"
    document = json.loads(run(args=["offload", "job", job.id, "--json"]).output)
    assert document["log"] == json.loads(
        run(args=["offload", "job", job.id, "--log", "--json"]).output
    )
    assert document["log"][-1]["number"] == 300
    assert "has logged nothing" in run(args=["offload", "job", quiet.id, "--log"]).output
    assert "--follow goes with --log" in run(args=["offload", "job", quiet.id, "--follow"]).output
