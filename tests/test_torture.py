"""The torture in its shortest form, and the auditor: what it would find if something were wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from torture import ROOT, pages, scenarios  # noqa: F401  (importing the scenarios makes them known)
from torture.auditor import Audit, audit
from torture.plan import PLAN
from torture.scenario import SCENARIOS
from torture.witness import axe, note

from flask_offload import Job, JobStatus
from flask_offload.testing import drain
from jobs_app import add
from jobsite import Site, make_site
from support import running


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", [item.name for item in SCENARIOS.values() if item.in_ci])
def test_nothing_is_lost_and_nothing_is_stuck(name: str) -> None:
    argv = [sys.executable, "-m", "torture", "--only", name]
    with running(argv, cwd=ROOT) as process:
        code = process.wait(260)
        told = process.output()
    assert code == 0, told
    assert "left out" not in told


def test_the_plan_knows_every_scenario_and_every_test() -> None:
    assert {item.number for item in SCENARIOS.values()} <= PLAN.keys()
    built = {item.number for item in SCENARIOS.values()}
    for number, item in PLAN.items():
        assert number in built or item.tests
        assert all((ROOT / "tests" / name).exists() for name in item.tests), number


def test_the_page_says_what_the_newest_runs_have_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing between its markers is written by hand."""
    copy = tmp_path / "page.md"
    copy.write_text(pages.PAGE.read_text().replace("| T1 |", "| T1, by hand |"))
    monkeypatch.setattr(pages, "PAGE", copy)
    pages.write_page()
    assert copy.read_text() == (ROOT / "docs" / "reliability.md").read_text()


# --- the auditor -------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def jobs(site: Site) -> list[Job]:
    """Three that were accepted, started and done, as the log tells."""
    done = [add.enqueue(1, 2) for _ in range(3)]
    drain(site.app)
    for job in done:
        assert job.refresh().status is JobStatus.SUCCESSFUL
        for line in (("accepted", job.id), ("start", job.id, 1), ("end", job.id, 1)):
            note(*line)
    change(site, "DELETE FROM results")  # those of the torture's tasks tell the attempt
    return done


def change(site: Site, statement: str, *values: object) -> None:
    site.engine.database.write(lambda connection: connection.execute(statement, values).fetchall())


def judged(site: Site) -> Audit:
    return audit(str(site.database), str(site.witness_file))


def test_the_auditor_is_content_when_all_is_well(site: Site, jobs: list[Job]) -> None:
    found = judged(site)
    assert (found.accepted, found.done, found.lost, found.stuck) == (3, 3, 0, 0)
    assert (found.integrity, found.violations) == ("ok", [])


def test_it_finds_a_job_that_is_gone(site: Site, jobs: list[Job]) -> None:
    change(site, "DELETE FROM jobs WHERE id = ?", jobs[0].id)
    found = judged(site)
    assert found.lost == 1
    assert f"{jobs[0].id} was accepted and is not in the database" in found.violations


def test_it_finds_a_job_that_nobody_runs(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET state = 'running' WHERE id = ?", jobs[0].id)
    assert judged(site).stuck == 1


def test_it_finds_a_job_that_ran_twice_without_need(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET attempt = 2 WHERE id = ?", jobs[0].id)
    note("start", jobs[0].id, 2)
    note("end", jobs[0].id, 2)
    (violation,) = judged(site).violations
    assert "attempt 2 began, though no axe fell on it" in violation


def test_an_axe_excuses_a_second_run(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET attempt = 2 WHERE id = ?", jobs[0].id)
    axe("test", 0.0, [os.getpid()])
    note("start", jobs[0].id, 2)
    note("end", jobs[0].id, 2)
    found = judged(site)
    assert (found.violations, found.again) == ([], 1)


def test_it_finds_a_result_of_another_attempt(site: Site, jobs: list[Job]) -> None:
    seq = "SELECT seq FROM jobs WHERE id = ?"
    change(site, f"INSERT INTO results (seq, value) VALUES (({seq}), '7')", jobs[0].id)
    found = judged(site)
    assert found.stale == 1
    assert "stale result: of attempt 7, and 1 counts" in found.violations[0]


def test_it_finds_a_success_that_nobody_saw(site: Site, jobs: list[Job]) -> None:
    lines = site.witnessed()
    kept = [line for line in lines if not (line.startswith("end") and jobs[0].id in line)]
    site.witness_file.write_text("\n".join(kept) + "\n")
    (violation,) = judged(site).violations
    assert "which never came to its end" in violation


def test_it_finds_a_damaged_file(site: Site, jobs: list[Job]) -> None:
    site.engine.database.checkpoint()
    site.engine.close()
    connection = apsw.Connection(str(site.database))
    where = "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_running'"
    page = connection.execute(where).get
    connection.close()
    with site.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    assert judged(site).integrity != "ok"
