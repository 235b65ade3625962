"""Exceptions, exception classes, waits and receivers that raise SystemExit end no process."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_offload import JobStatus
from small_site import small_site

pytestmark = pytest.mark.processes

SHOP = """
import sys
from datetime import timedelta
from flask import Flask
from flask_offload import Offload, Retry, signals

app = Flask(__name__)
offload = Offload(app)

class Asked(type):
    def __instancecheck__(cls, other):
        raise SystemExit("an exception's class")

class Kind(Exception, metaclass=Asked):
    pass

class NoClass(Exception):
    @property
    def __class__(self):
        raise SystemExit("its __class__")

class Seconds(int):
    def __float__(self):
        raise SystemExit("a number")

class Span(timedelta):
    def total_seconds(self):
        raise KeyboardInterrupt

@offload.task(max_attempts=2, retry_on=(Kind,))
def asks_its_class() -> None:
    raise ValueError("x")

@offload.task(max_attempts=2)
def has_no_class() -> None:
    raise NoClass("x")

@offload.task(max_attempts=2, backoff=lambda error, attempt: Seconds(1))
def waits() -> None:
    raise ValueError("x")

@offload.task(max_attempts=2)
def asks_to_wait() -> None:
    raise Retry("x", after=Seconds(1))

@offload.task(max_attempts=2)
def spans() -> None:
    raise Retry("x", after=Span(0))

@offload.task
def good() -> None:
    pass

def leave(app, **what):
    sys.exit(5)

def interrupt(app, **what):
    raise KeyboardInterrupt

def no_class(app, **what):
    raise NoClass("x")

for receiver in (leave, interrupt, no_class):
    for signal in (signals.started, signals.succeeded, signals.failed, signals.retried):
        signal.connect(receiver)
"""


def test_the_process_and_its_other_jobs_live_on(tmp_path: Path) -> None:
    names = ("asks_its_class", "has_no_class", "waits", "asks_to_wait", "spans")
    with small_site(tmp_path, SHOP) as site:
        bad = [site.enqueue(name) for name in names]
        good = [site.enqueue("good") for _ in range(5)]
        with site.worker("--burst", "--processes", "1", "--threads", "4") as worker:
            assert worker.wait(60) == 0
        assert [site.status(job) for job in bad] == [JobStatus.FAILED] * len(bad)
        assert [site.status(job) for job in good] == [JobStatus.SUCCESSFUL] * len(good)
        outcomes = {attempt.outcome for job in bad + good for attempt in site.job(job).attempts}
    assert outcomes == {"FAILED", "RETRY", "SUCCESSFUL"}, worker.output()
