"""Whatever a task reports of itself is refused in the task, or can be carried by every store."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_offload import Discard, Job, JobStatus, Offload, Retry, current_job
from flask_offload.cli.document import plain
from flask_offload.engines.base import JobQuery
from flask_offload.errors import PayloadError
from flask_offload.jobs.attempt import Claim, Report
from flask_offload.jobs.context import JobContext
from flask_offload.jobs.job import Progress, moment
from flask_offload.jobs.reported import MAX_MESSAGE, error_of
from flask_offload.testing import drain


class Lazy:
    """Text that is made when it is asked for, as a translation is."""

    def __str__(self) -> str:
        return "übersetzt"


class Broken:
    """An object of which nothing can be asked."""

    def __str__(self) -> str:
        raise SystemExit("no")

    __repr__ = __str__

    def __float__(self) -> float:
        raise RuntimeError("no")


class Text(str):
    """A str whose own `__str__` lies."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


ODD: list[Any] = [
    *(
        True,
        Decimal("2.5"),
        Decimal("NaN"),
        Decimal("1e400"),
        Fraction(1, 3),
        1j,
        10**400,
        -(2**64),
    ),
    *(2**63, 2**53 + 1, 1e308, math.inf, -math.inf, math.nan, "5", b"5", bytearray(b"5"), "", [1]),
    *({"a": 1}, {1}, None, object(), Lazy(), Broken(), Text("x"), Path("/a"), range(3), int, print),
    *("\ud800", "a\0b", "x" * 100_000, "\x1b[31m", Exception("x")),
]
anything = st.one_of(
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner, max_size=3)),
)


def context() -> tuple[JobContext, list[Report]]:
    reports: list[Report] = []
    nothing: Any = ""
    claim = Claim(
        1, "j", "t", "q", "", 0, 1, 0, 0, "retry", None, "", 0.0, 0.0, nothing, None, None
    )
    made = JobContext(claim, reports.append)
    return made, reports


def check_carried(report: Report) -> None:
    """It comes through the channel, JSON and a page unchanged."""
    data = msgspec.msgpack.encode(report)
    assert msgspec.msgpack.decode(data, type=Report) == report
    json.dumps(plain(Progress.of(report.done, report.total, report.message)), allow_nan=False)
    if report.message is not None:
        assert len(report.message) <= MAX_MESSAGE
        assert "\0" not in report.message
        report.message.encode()


@given(anything, anything, anything)
def test_progress_takes_or_refuses_any_value(done: Any, total: Any, message: Any) -> None:
    job, reports = context()
    with suppress(TypeError, ValueError):
        job.progress(done, total, message)
    job.flush()
    for report in reports:
        check_carried(report)


@given(anything)
def test_checkpoint_takes_or_refuses_any_value(cursor: Any) -> None:
    job, reports = context()
    with suppress(PayloadError):
        job.checkpoint(cursor)
        check_carried(reports[-1])
        assert job.cursor == cursor or isinstance(cursor, (tuple, dict))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Decimal("2.5"), 2.5),
        (Fraction(1, 4), 0.25),
        (True, 1),
        (2**70, float(2**70)),
    ],
)
def test_other_numbers_are_converted(value: Any, kept: float) -> None:
    job, reports = context()
    job.progress(value, value)
    assert (reports[0].done, reports[0].total) == (kept, kept)


def test_lazy_text_becomes_text() -> None:
    job, reports = context()
    job.progress(1, message=Lazy())  # type: ignore[arg-type]
    assert reports[0].message == "übersetzt"


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_what_a_store_holds_already_can_be_shown(number: float) -> None:
    progress = Progress.of(number, number, "x")
    assert progress == Progress(0, None, None, "x")
    when = moment(number)
    assert when is None or 1 <= when.year <= 9999


@given(st.floats())
def test_any_stored_time_can_be_shown(number: float) -> None:
    moment(number)


@pytest.mark.parametrize("text", [Broken(), Text("x"), "\ud800", None, Lazy()])
def test_any_exception_becomes_text(text: Any) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            return text if isinstance(text, str) else str(text)

    error = Odd()
    error.__notes__ = [text]
    error.__cause__ = Odd()
    described = error_of(error)
    assert described.type == "Odd"
    msgspec.msgpack.encode(described)
    (described.message + (described.traceback or "")).encode()


# --- through a store, as tasks do it -------------------------------------------------------------


def retry_after(value: Any) -> Callable[[], None]:
    def task() -> None:
        raise Retry(after=value)

    return task


def discard(value: Any) -> Callable[[], None]:
    def task() -> None:
        raise Discard(value)

    return task


def returned(value: Any) -> Callable[[], Any]:
    return lambda: value


def report(value: Any) -> Callable[[], None]:
    return lambda: current_job.progress(value, value, value)


KINDS: list[Callable[[Any], Callable[[], Any]]] = [retry_after, discard, returned, report]


@pytest.mark.parametrize("engine", ["sqlite", "inline"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(value=anything)
def test_no_value_harms_the_store(
    tmp_path_factory: pytest.TempPathFactory, engine: str, kind: Any, value: Any
) -> None:
    app = Flask(__name__)
    app.testing = True
    path = tmp_path_factory.mktemp("jobs") / "jobs.sqlite3"
    app.config.update(OFFLOAD_ENGINE=engine, OFFLOAD_SQLITE_PATH=path)
    offload = Offload(app)
    # the backoff gives the same value
    task = offload.task(name="odd", max_attempts=2, backoff=lambda error, attempt: value)(
        kind(value)
    )
    good = offload.task(name="good")(lambda: 1)
    with app.app_context():
        jobs = [task.enqueue(), good.enqueue()]
        drain(app)
        for job in jobs:
            assert readable(job.refresh()) is not None
        assert jobs[1].status is JobStatus.SUCCESSFUL
        assert len(offload.engine.list(JobQuery())) == 2
        offload.engine.close()


def readable(job: Job) -> str:
    return json.dumps(
        [str(job.run_after), str(job.attempts), plain(job.progress), str(job.error)],
        allow_nan=False,
    )


def test_a_result_that_can_not_be_stored_ends_the_job_at_once(tmp_path: Path) -> None:
    app = Flask(__name__)
    app.testing = True
    app.config["OFFLOAD_SQLITE_PATH"] = tmp_path / "jobs.sqlite3"
    offload = Offload(app)
    sent: list[str] = []

    @offload.task(max_attempts=5)
    def send(to: str) -> Any:
        sent.append(to)
        return object()

    @offload.task(max_attempts=5)
    async def send_async(to: str) -> Any:
        sent.append(to)
        return {"a": lambda: None}

    with app.app_context():
        jobs = [send.enqueue("ann"), send_async.enqueue("bo")]
        drain(app)
        assert sent == ["ann", "bo"]
        for job in jobs:
            assert job.refresh().status is JobStatus.FAILED
            assert job.error is not None
            assert "the return value of" in job.error.message
        offload.engine.close()
