"""Rules for every test: leave nothing behind, and in CI skip nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar, cast

import pytest

import leaks
import proc
import support

AnyReport = TypeVar("AnyReport", pytest.TestReport, pytest.CollectReport)

leaks.mark_this_run()


def pytest_report_header() -> str | None:
    """Say what is not watched, rather than be silent about it."""
    return None if proc.AVAILABLE else "no /proc here: leaked processes and files go unseen"


@pytest.fixture(autouse=True)
def leak_detector(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves contexts, threads, processes, open files or sockets behind."""
    before = leaks.Snapshot.take()
    yield
    if found := before.leaks():
        for pid in leaks.leaked_processes(before):
            support.kill9(pid)
        pytest.fail(f"{request.node.nodeid} left behind:\n- " + "\n- ".join(found), pytrace=False)


# --- in CI nothing is skipped ------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A skipped file, as `pytest.importorskip` makes it."""
    return _refuse_skip((yield))


def _refuse_skip(report: AnyReport) -> AnyReport:
    """Turn a skip into a failure where everything must run."""
    if support.in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        place, line, reason = cast("tuple[str, int, str]", report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(support.NOT_PROMISED):
            report.outcome = "failed"
            report.longrepr = f"{place}:{line}: skipped, and CI must run everything: {reason}"
    return report
