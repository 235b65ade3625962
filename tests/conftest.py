"""Rules for every test: leave nothing behind, say that it starts processes, in CI skip nothing."""

from __future__ import annotations

import sys
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


# --- tests that start processes are marked -----------------------------------------------------

STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"}
_started: list[str] = []


def _note_start(event: str, arguments: tuple[object, ...]) -> None:
    # `platform` asks uname once in a process: in whichever test comes first
    if event in STARTS and arguments[:1] != ("uname",):
        _started.append(f"{event} {str(arguments[:1])[:200]}")


sys.addaudithook(_note_start)


def pytest_runtest_logstart() -> None:
    """What was started before belongs to no test, such as what a module does when imported."""
    _started.clear()


@pytest.fixture(scope="session")
def processes() -> None:
    """For fixtures that start processes: the tests that use them are marked `processes`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a fixture which starts processes."""
    for item in items:
        if "processes" in getattr(item, "fixturenames", ()):
            item.add_marker("processes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that starts a process and is not marked: `make quick` would run it."""
    report = yield
    if _started and report.passed and item.get_closest_marker("processes") is None:
        report.outcome = "failed"
        report.longrepr = f"mark it with @pytest.mark.processes: it started {_started[0]}"
    _started.clear()
    return _refuse_skip(report)


# --- in CI nothing is skipped ------------------------------------------------------------------


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
