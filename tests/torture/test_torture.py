"""The torture in its shortest form, and the auditor: what it would find if something were wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from torture import ROOT, pages, scenarios  # noqa: F401  (importing the scenarios makes them known)
from torture.auditor import TOLD_WITHIN, Audit, audit, watch
from torture.event_log import VARIABLE, note, record_kill
from torture.kill_points import MOMENTS_OF, target
from torture.plan import PLAN
from torture.scenario import SCENARIOS

from flask_offload import Job, JobStatus
from flask_offload.testing import drain
from jobs_app import add
from jobs_server import Site, make_site
from proc import descendants, process_group
from support import running


@pytest.mark.processes
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
    assert copy.read_text() == (ROOT / "docs" / "evidence" / "reliability-runs.md").read_text()


ORPHAN = """
import os, time
if not os.fork():
    orphan = os.fork()
    if not orphan:
        time.sleep(60)
    print(orphan, flush=True)
    os._exit(0)
os.wait()
print("alone", flush=True)
time.sleep(60)
"""


@pytest.mark.processes
def test_a_killed_group_includes_what_its_leader_has_left_behind() -> None:
    """Such as the worker that a web process kept which died a moment earlier."""
    with running([sys.executable, "-c", ORPHAN], ready="alone") as leader:
        orphan = int(leader.output().split()[0])
        assert orphan not in descendants(leader.pid)
        assert orphan in process_group(leader.pid)


def test_every_kill_point_is_in_the_code() -> None:
    for moments in MOMENTS_OF.values():
        for name, moment in moments.items():
            assert callable(target(moment)[2]), name


# --- the auditor -------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        monkeypatch.setenv(VARIABLE, str(made.witness_file))
        yield made


@pytest.fixture
def jobs(site: Site) -> list[Job]:
    """Three that were accepted, started and done, as the log says."""
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


def test_it_finds_a_job_that_no_process_runs(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET state = 'running' WHERE id = ?", jobs[0].id)
    assert judged(site).stuck == 1


def test_it_finds_a_job_that_ran_twice_without_need(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET attempt = 2 WHERE id = ?", jobs[0].id)
    note("start", jobs[0].id, 2)
    note("end", jobs[0].id, 2)
    (violation,) = judged(site).violations
    assert "attempt 2 began, though its process was not killed" in violation


def test_a_kill_excuses_a_second_run(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET attempt = 2 WHERE id = ?", jobs[0].id)
    record_kill("test", 0.0, [os.getpid()])
    note("start", jobs[0].id, 2)
    note("end", jobs[0].id, 2)
    found = judged(site)
    assert (found.violations, found.again) == ([], 1)


def test_a_power_cut_excuses_a_job_whose_process_had_just_left(site: Site, jobs: list[Job]) -> None:
    """One that ran alone: its outcome was not on the disk yet."""
    change(site, "UPDATE jobs SET attempt = 2 WHERE id = ?", jobs[0].id)
    note("power", f"{time.monotonic():.6f}")
    note("start", jobs[0].id, 2)
    note("end", jobs[0].id, 2)
    found = judged(site)
    assert (found.violations, found.again) == ([], 1)


def test_a_kill_does_not_excuse_a_job_that_had_ended_long_before(
    site: Site, jobs: list[Job]
) -> None:
    change(site, "UPDATE jobs SET attempt = 2 WHERE id = ?", jobs[0].id)
    later = time.monotonic() + TOLD_WITHIN + 1
    record_kill("test", later, [os.getpid()], until=later)
    site.witness_file.write_text(
        site.witness_file.read_text()
        + f"start {later:.6f} {os.getpid()} {jobs[0].id} 2\n"
        + f"end {later:.6f} {os.getpid()} {jobs[0].id} 2\n"
    )
    (violation,) = judged(site).violations
    assert "its process was not killed" in violation


def give_up(site: Site, job: Job) -> None:
    """As the engine does with a job that must not run twice."""
    change(site, "UPDATE jobs SET state = 'failed', on_crash = 'fail' WHERE id = ?", job.id)
    change(
        site,
        "INSERT INTO attempts (seq, number, outcome, error_type, error_message) SELECT seq, 1,"
        " 'CRASHED', 'WorkerDied', 'it died: not tried again' FROM jobs WHERE id = ?",
        job.id,
    )


def test_it_finds_a_job_given_up_for_a_worker_that_lives(site: Site, jobs: list[Job]) -> None:
    give_up(site, jobs[0])
    later = time.monotonic() + TOLD_WITHIN + 1
    record_kill("test", later, [os.getpid()], until=later)  # when the job had ended long before
    (violation,) = judged(site).violations
    assert "though its process was not killed" in violation
    record_kill("test", 0.0, [os.getpid()])
    assert judged(site).violations == []


def test_it_counts_a_waiting_job_that_was_never_acknowledged(site: Site, jobs: list[Job]) -> None:
    add.enqueue(1, 2)
    found = judged(site)
    assert (found.waiting, found.unacknowledged) == (1, 1)


def test_it_finds_a_success_without_its_result(site: Site, jobs: list[Job]) -> None:
    change(site, "UPDATE jobs SET task = 'torture.app.quick' WHERE id = ?", jobs[0].id)
    (violation,) = judged(site).violations
    assert "its result is not there" in violation


def test_it_sees_a_job_that_does_not_rest_when_it_is_finished(site: Site, jobs: list[Job]) -> None:
    watch(str(site.database))
    for state in ("running", "successful"):
        change(site, "UPDATE jobs SET state = ? WHERE id = ?", state, jobs[0].id)
    (violation,) = judged(site).violations
    assert "was successful by attempt 1, and became running" in violation


def test_it_sees_a_report_of_another_attempt(site: Site, jobs: list[Job]) -> None:
    watch(str(site.database))
    for message in ("attempt 1", "attempt 7"):
        change(site, "UPDATE jobs SET message = ? WHERE id = ?", message, jobs[0].id)
    found = judged(site)
    assert found.stale == 1
    assert "stale report: of attempt 7, and 1 counts" in found.violations[0]


def test_it_finds_a_result_of_another_attempt(site: Site, jobs: list[Job]) -> None:
    seq = "SELECT seq FROM jobs WHERE id = ?"
    change(site, f"INSERT INTO results (seq, value) VALUES (({seq}), '7')", jobs[0].id)
    found = judged(site)
    assert found.stale == 1
    assert "stale result: of attempt 7, and 1 counts" in found.violations[0]


def test_it_finds_a_success_that_is_not_in_the_log(site: Site, jobs: list[Job]) -> None:
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
