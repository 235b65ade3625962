"""No text of a task, a client or another process can forge a line of the log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from flask_offload import signals
from flask_offload.jobs import log
from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Error
from small_site import small_site

FORGED = "2027-01-01 00:00:00,000 INFO job 0 of shop.pay, attempt 1: succeeded in 1.000 s"
BREAKS = ("\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")


class _AsJson(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        named = {name: getattr(record, name, None) for name in ("action", "job_id", "task", "who")}
        return json.dumps({"message": record.getMessage(), **named}, ensure_ascii=False)


class _Lines(logging.Handler):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.fixture(params=["text", "terminal", "fields", "json"])
def lines(request: pytest.FixtureRequest) -> Iterator[_Lines]:
    form = "%(asctime)s %(levelname)s %(message)s"
    formatters = {
        "text": log._PlainFormatter(form),
        "terminal": log._Terminal(form),
        "fields": log._PlainFormatter(
            "%(asctime)s %(levelname)s %(job_id)s %(task)s %(message)s",
            defaults={"job_id": "", "task": ""},
        ),
        "json": _AsJson(),
    }
    handler = _Lines(formatters[request.param])
    before = log.logger.level
    log.logger.addHandler(handler)
    log.logger.setLevel(logging.DEBUG)
    yield handler
    log.logger.removeHandler(handler)
    log.logger.setLevel(before)


def _claim(text: str) -> Claim:
    call: tuple[object, ...] = ("user", "view", 0.0, 0.0, "[[],{}]", None, None)
    return Claim(1, text, text, text, "threads", 0, 1, 0, 0, "fail", *call)  # type: ignore[arg-type]


def _outcome(text: str, ending: Ending, *, traceback: str = "") -> Outcome:
    error = Error(text, text, traceback)
    return Outcome(1, 1, ending, started_at=1.0, finished_at=2.0, error=error, after=1.0)


def _raised(text: str) -> Outcome:
    """Of a job whose exception, with notes and a cause, was raised in this process."""
    try:
        try:
            raise KeyError(text)
        except KeyError as cause:
            error = RuntimeError(text)
            error.add_note(text)
            raise error from cause
    except RuntimeError as error:
        outcome = _outcome(text, Ending.FAILED)
        outcome.__dict__["exception"] = error
        return outcome


SENT: dict[str, Callable[[str], object]] = {
    "enqueued": lambda text: signals.send(
        signals.enqueued, None, job=SimpleNamespace(id=text, task=text, queue_name=text)
    ),
    "started": lambda text: signals.send(signals.started, None, claim=_claim(text)),
    "retried": lambda text: signals.send(
        signals.retried, None, claim=_claim(text), outcome=_outcome(text, Ending.RETRY)
    ),
    "failed": lambda text: signals.send(
        signals.failed, None, claim=_claim("x"), outcome=_raised(text)
    ),
    "failed elsewhere": lambda text: signals.send(
        signals.failed,
        None,
        claim=_claim("x"),
        outcome=_outcome(text, Ending.FAILED, traceback=f"Traceback:\n{text}\n"),
    ),
    "cancelled": lambda text: signals.send(
        signals.cancelled, None, claim=_claim(text), outcome=_outcome(text, Ending.CANCELLED)
    ),
    "crashed": lambda text: signals.send(
        signals.crashed, None, job_id=text, task=text, attempt=1, reason=text
    ),
    "a schedule": lambda text: log.schedule_fired(text, text, text),
    "an error": lambda text: log.write(logging.ERROR, "x", "no: %s", ValueError(text)),
    "details": lambda text: log.write(logging.ERROR, "x", "no:", details=text),
    "a visitor": lambda text: log.write(logging.INFO, "x", "by %s", text, who=text),
}


@pytest.mark.parametrize("what", SENT)
def test_a_text_begins_no_line(lines: _Lines, what: str) -> None:
    for number, mark in enumerate(BREAKS, 1):
        SENT[what](f"a{mark}{FORGED}")
        assert len(lines.texts) == number
        first, *others = lines.texts[-1].splitlines()
        assert not first.startswith(FORGED[:19])
        if isinstance(lines.formatter, _AsJson):
            json.loads(lines.texts[-1])
        assert all(line.startswith("  ") for line in others), lines.texts[-1]


SHOP = f"""
from flask import Flask
from flask_offload import Discard, Offload

app = Flask(__name__)
offload = Offload(app)
FORGED = {FORGED!r}

@offload.task(max_attempts=2, backoff=0.0)
def raises(mark: str) -> None:
    raise ValueError("a" + mark + FORGED)

@offload.task
def discards(mark: str) -> None:
    raise Discard("a" + mark + FORGED)
"""


@pytest.mark.processes
def test_the_log_of_a_worker_has_its_own_lines_only(tmp_path: Path) -> None:
    with small_site(tmp_path, SHOP) as site:
        for name in ("raises", "discards"):
            for mark in BREAKS:
                site.enqueue(name, mark)
        with site.worker("--burst") as worker:
            worker.wait(60)
            text = worker.output()
    assert text.count("failed after") == 2 * len(BREAKS)
    assert FORGED in text
    for line in text.splitlines():
        assert not line.startswith(FORGED), line
