"""The table of `make demo`: what it claims, how it looks, and that it is measured."""

from __future__ import annotations

import re

import pytest

from flask_offload.measure import Answer, ProbeResult
from flask_offload_lab import crash_test, demo
from flask_offload_lab.crash_test import CrashTestResult, Pattern
from flask_offload_lab.demo import DemoTable, RouteResult, claims, measure, render
from flask_offload_lab.testbed import LabTestbed
from lab_app import QUICK


def probed(*response_ms: float, failed: str | None = None) -> ProbeResult:
    answers = [
        Answer(0.0, ttfb_ms=each, response_ms=each, status=200, error=failed)
        for each in response_ms
    ]
    return ProbeResult("http://127.0.0.1:1/", "GET", tuple(answers), 1.0)


def row(
    pattern: Pattern, route: float, page: float, answered: int = 4, done: int = 4
) -> RouteResult:
    result = CrashTestResult(pattern, 4, answered, done, twice=0, killed=4, recovered_ms=None)
    return RouteResult(pattern, probed(route), probed(page), 900.0, result)


def table(**changed: RouteResult) -> DemoTable:
    rows = {
        "sync": row("sync", 1000.0, 4000.0, answered=0, done=0),
        "thread": row("thread", 5.0, 6.0, done=0),
        "background": row("background", 5.0, 6.0),
    }
    return DemoTable(probed(2.0), tuple((rows | changed).values()), "GET /sync blocked 1,000 ms: …")


def test_holds_when_the_claims_do() -> None:
    assert [claim.held for claim in claims(table())] == [True] * 4
    assert table().held


@pytest.mark.parametrize(
    ("pattern", "worse", "failing"),
    [
        ("background", row("background", 201.0, 6.0), 0),
        ("background", row("background", 5.0, 801.0), 1),
        ("thread", row("thread", 5.0, 6.0, done=4), 2),
        ("background", row("background", 5.0, 6.0, done=3), 3),
        ("background", row("background", 5.0, 6.0, answered=0, done=0), 3),
    ],
)
def test_fails_when_one_claim_does(pattern: str, worse: RouteResult, failing: int) -> None:
    found = table(**{pattern: worse})
    assert [claim.held for claim in claims(found)] == [n != failing for n in range(4)]
    assert not found.held
    assert "FAILED" in render(found)


def test_an_engine_is_judged_by_its_flags() -> None:
    found = DemoTable(probed(2.0), table().rows, engine="inline", moves=False, durable=False)
    assert [claim.text.partition(" had lost")[0] for claim in claims(found)] == [
        "after kill -9 the threads"
    ]
    text = render(found)
    assert text.startswith("inline ")
    assert "The inline engine runs each job inside of enqueue" in text


def test_visitors_who_waited_for_the_work_saw_an_error() -> None:
    result = CrashTestResult(
        "background", 4, 3, 3, twice=0, killed=1, recovered_ms=None, waited=True
    )
    waited = RouteResult("background", probed(900.0), probed(900.0), 900.0, result)
    assert "1 of 4 saw an error" in render(table(background=waited))


def test_failed_requests_prove_nothing() -> None:
    broken = RouteResult(
        "background",
        probed(0.1, failed="refused"),
        probed(0.1, failed="refused"),
        None,
        row("background", 5.0, 6.0).crash_test,
    )
    assert [claim.held for claim in claims(table(background=broken))] == [False, False, True, True]


def test_shows_rows_columns_and_what_survived() -> None:
    lines = render(table()).splitlines()
    assert lines[1].count("p50 ms") == lines[1].count("p99 ms") == 2
    by_route = {line.split()[0]: line.split() for line in lines if line.startswith("/")}
    assert by_route["/sync"][1:5] == ["1,000", "1,000", "4,000", "4,000"]
    assert by_route["/background"][1:5] == ["5.0", "5.0", "6.0", "6.0"]
    assert by_route["/thread"][5:] == ["4", "of", "4", "lost"]
    assert by_route["/background"][5:] == ["4", "of", "4", "done"]
    assert "GET /sync blocked" in lines[-1]


def test_a_job_that_ran_twice_is_shown() -> None:
    result = CrashTestResult("background", 4, 4, 4, twice=1, killed=4, recovered_ms=500.0)
    twice = RouteResult("background", probed(5.0), probed(6.0), 900.0, result)
    assert "4 of 4 done, 1 twice" in render(table(background=twice))


def test_a_repeated_delivery_is_shown() -> None:
    result = CrashTestResult("background", 4, 4, 4, 0, 4, recovered_ms=500.0, dropped=1)
    repeated = RouteResult("background", probed(5.0), probed(6.0), 900.0, result)
    assert "4 of 4 done (1 repeated, dropped)" in render(table(background=repeated))


@pytest.mark.processes
def test_measures_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing, with fewer visitors: real mail, real photos, real kills."""
    monkeypatch.setattr(demo, "REQUESTS", {"sync": 1, "thread": 2, "background": 2})
    monkeypatch.setattr(demo, "SECONDS", 0.6)
    monkeypatch.setattr(demo, "CLIENTS", 2)
    monkeypatch.setattr(demo, "PACE", 0.5)
    monkeypatch.setitem(crash_test.PATIENCE, "thread", 1.5)
    reported: list[str] = []
    with LabTestbed("http://127.0.0.1:1", QUICK) as testbed:
        found = measure(testbed, reported.append)
        log = (testbed.sample_app.settings.folder / "sample-app.log").read_text()
    assert found.held, f"{render(found)}\n{log}"
    assert found.row("sync").crash_test.answered == 0
    for each in found.rows:
        assert each.work_ms is not None
        assert each.work_ms > QUICK.shortest * 1000
    assert found.row("thread").crash_test.lost == 4
    assert found.row("background").crash_test.recovered_ms is not None
    assert found.finding is not None
    assert "app.py" in found.finding
    assert [text for text in reported if re.search(r"kill -9", text)]
