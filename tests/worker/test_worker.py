"""Real workers: what they run, what they survive, how they stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flask_offload import InvalidTransition, JobStatus
from flask_offload.worker.crash_cooldown import COOLDOWN
from jobs_app import (
    add,
    alone,
    ask_again,
    count_to,
    deaf,
    die,
    discard,
    fail,
    fail_until,
    ignore_timeout,
    ignore_timeout_once,
    listen_to_timeout,
    note,
    note_once,
    note_slowly,
    resume,
    sleep_async,
    sleep_too_long,
    sleep_until_cancelled,
    surroundings,
    wait_for_cancel,
)
from jobs_server import Site, make_site
from proc import descendants
from support import kill9, wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        yield made


def outcomes(job: object) -> list[str | None]:
    return [attempt.outcome for attempt in job.attempts]  # type: ignore[attr-defined]


# --- running -----------------------------------------------------------------------------------


def test_runs_jobs_and_returns_results(site: Site) -> None:
    sums = [add.enqueue(number, 1) for number in range(20)]
    broken = fail.enqueue("on purpose")
    site.burst()
    assert [job.refresh().return_value for job in sums] == list(range(1, 21))
    assert {job.status for job in sums} == {JobStatus.SUCCESSFUL}
    broken.refresh()
    assert broken.status is JobStatus.FAILED
    assert broken.error is not None
    assert (broken.error.type, broken.error.message) == ("ValueError", "on purpose")
    assert "jobs_app.py" in (broken.error.traceback or "")
    assert "flask_offload" not in (broken.error.traceback or "")


def test_strict_order_by_priority_then_age(site: Site) -> None:
    for name, priority in [("a", 0), ("b", 5), ("c", 0), ("d", 100), ("e", -100), ("f", 5)]:
        note.using(priority=priority).enqueue(name)
    site.burst("--threads", "1")
    assert site.witnessed() == ["d", "b", "f", "a", "c", "e"]


def test_serves_only_its_queues(site: Site) -> None:
    note.using(queue_name="mail").enqueue("mail")
    other = note.using(queue_name="other").enqueue("other")
    site.burst("--queue", "mail")
    assert site.witnessed() == ["mail"]
    assert other.refresh().status is JobStatus.READY


def test_a_paused_queue_waits_and_resumes(site: Site) -> None:
    job = note.using(queue_name="held").enqueue("held")
    site.engine.pause("held")
    site.burst()
    assert job.refresh().status is JobStatus.READY
    site.engine.resume("held")
    site.burst()
    assert job.refresh().status is JobStatus.SUCCESSFUL


def test_what_a_task_finds_around_it(site: Site) -> None:
    job = surroundings.enqueue()
    process = site.burst(FLASK_SERVER_NAME="example.test")
    found = job.refresh().return_value
    assert found["url"] == "http://example.test/"
    assert found["id"] == job.id
    assert site.witnessed() == ["teardown set in the job"]
    assert "a line of the task" in process.output()


def test_progress_is_seen_while_it_runs(site: Site) -> None:
    job = count_to.enqueue(30, 0.05)
    with site.worker():
        wait_until(lambda: (p := job.refresh().progress) is not None and 0 < p.done < 30)
        assert job.status is JobStatus.RUNNING
        assert job.progress is not None
        assert job.progress.total == 30
        assert job.progress.message == "counting"
        job.wait(20)
    assert job.progress is not None
    assert job.progress.fraction == 1.0


# --- retries -----------------------------------------------------------------------------------


def test_retries_until_it_works(site: Site) -> None:
    job = fail_until.enqueue(3)
    again = ask_again.enqueue()
    with site.worker():
        assert job.wait(20).return_value == 3
        assert again.wait(20).return_value == 2
    assert outcomes(job) == ["RETRY", "RETRY", "SUCCESSFUL"]
    assert [attempt.error and attempt.error.message for attempt in job.attempts] == [
        "attempt 1",
        "attempt 2",
        None,
    ]


def test_a_burst_waits_for_what_is_due_soon_and_for_nothing_else(site: Site) -> None:
    def unknown() -> None: ...

    stray = site.offload.task(name="not_in_the_app")(unknown).enqueue()
    del site.offload.tasks["not_in_the_app"]
    job = fail_until.enqueue(3)
    far = note.using(run_after=timedelta(hours=1)).enqueue("later")
    site.burst()
    assert outcomes(job.refresh()) == ["RETRY", "RETRY", "SUCCESSFUL"]
    assert stray.refresh().status is far.refresh().status is JobStatus.READY


def test_gives_up_after_max_attempts_and_can_be_retried_by_hand(site: Site) -> None:
    job = fail_until.enqueue(4)
    with site.worker():
        assert job.wait(20).status is JobStatus.FAILED
        assert len(job.attempts) == 3
        assert job.retry().wait(20).return_value == 4


def test_a_discarded_job_ends_cancelled_with_the_reason(site: Site) -> None:
    job = discard.enqueue()
    site.burst()
    job.refresh()
    assert job.status is JobStatus.CANCELLED
    assert job.error is not None
    assert job.error.message == "not wanted any more"
    with pytest.raises(InvalidTransition, match="finished already"):
        job.cancel()


# --- crashes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"),
    [("segfault", "SIGSEGV"), ("exit", "exit code 7"), ("kill", "SIGKILL")],
)
def test_a_job_that_kills_its_process_is_given_up(site: Site, how: str, reason: str) -> None:
    poison = die.enqueue(how)
    good = [add.enqueue(number, 0) for number in range(50)]
    site.burst()
    poison.refresh()
    assert poison.status is JobStatus.FAILED
    assert outcomes(poison) == ["CRASHED"] * 3
    assert poison.error is not None
    assert reason in poison.error.message
    assert "crash 3 of 3" in poison.error.message
    assert [job.refresh().return_value for job in good] == list(range(50))


def test_a_job_that_crashed_twice_waits_for_the_cooldown(site: Site) -> None:
    """Other jobs are killed meanwhile, as in a storm; its last run comes after."""

    def hit(name: str, times: int) -> float:
        kill9(int(site.wait_for_witness(f"start {name} ", times)[-1].split()[2]))
        return time.monotonic()

    job = note_slowly.enqueue("suspect", 0.5)
    with site.worker("--threads", "1"):
        hit("suspect", 1)
        hit("suspect", 2)
        others = [note_slowly.enqueue(f"other{number}", 0.5) for number in range(2)]
        hit("other0", 1)
        last_hit = hit("other1", 1)
        site.wait_for_witness("start suspect", 3)
        waited = time.monotonic() - last_hit
        for each in (job, *others):
            each.wait(20)
    assert outcomes(job) == ["CRASHED", "CRASHED", "SUCCESSFUL"]
    assert [outcomes(other) for other in others] == [["CRASHED", "SUCCESSFUL"]] * 2
    assert waited > COOLDOWN
    starts = [line.split() for line in site.witnessed() if line.startswith("start")]
    assert starts[-1][1] == "suspect"
    assert starts[-1][2] not in {pid for _, _, pid, _ in starts[:-1]}, "not in a process of its own"


def test_sys_exit_ends_the_job_and_not_the_worker(site: Site) -> None:
    job = die.enqueue("sys.exit")
    good = add.enqueue(1, 1)
    site.burst("--threads", "1")
    assert job.refresh().status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "SystemExit"
    assert outcomes(job) == ["FAILED"]
    assert good.refresh().return_value == 2


def test_a_killed_child_is_replaced_and_its_job_starts_again_soon(site: Site) -> None:
    job = note_slowly.enqueue("work", 1.0)
    with site.worker() as worker:
        line = site.wait_for_witness("start work")[0]
        child = int(line.split()[2])
        assert child in descendants(worker.pid)
        kill9(child)
        killed = time.time()
        site.wait_for_witness("start work", 2)
        again = float(site.wait_for_witness("start work", 2)[1].split()[3])
        job.wait(20)
    assert job.status is JobStatus.SUCCESSFUL
    assert outcomes(job) == ["CRASHED", "SUCCESSFUL"]
    assert again - killed < 10  # the median over many is in docs/evidence/reliability-runs.md


def test_jobs_in_other_processes_go_on_after_a_crash(site: Site) -> None:
    jobs = [note_slowly.enqueue(f"job{number}", 1.5) for number in range(2)]
    with site.worker("--processes", "2", "--threads", "1"):
        lines = site.wait_for_witness("start", 2)
        kill9(int(lines[0].split()[2]))
        for job in jobs:
            job.wait(20)
    assert sorted(len(job.attempts) for job in jobs) == [1, 2]


def test_at_most_once_is_failed_after_a_crash(site: Site) -> None:
    job = note_once.enqueue("careful", 30)
    with site.worker():
        line = site.wait_for_witness("start careful")[0]
        kill9(int(line.split()[2]))
        job.wait(20)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "may not run twice" in job.error.message
    assert len(site.witnessed()) == 1


def test_a_killed_supervisor_is_recovered_by_the_next_worker(site: Site) -> None:
    job = note_slowly.enqueue("work", 1.0)
    waiting = [note_slowly.using(priority=-1).enqueue("later", 0) for _ in range(5)]
    with site.worker("--threads", "1") as first:
        site.wait_for_witness("start work")
        family = descendants(first.pid)
        kill9(first.pid)
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in family),
            message="the children to die with their supervisor",
        )
        with site.worker("--threads", "1"):
            job.wait(20)
            for other in waiting:
                other.wait(20)
    assert outcomes(job) == ["CRASHED", "SUCCESSFUL"]
    assert [len(other.attempts) for other in waiting] == [1] * 5


def test_alone_in_a_process_of_its_own(site: Site) -> None:
    first, second = alone.enqueue("calm"), alone.enqueue("calm")
    killer = alone.enqueue("kill")
    common = note_slowly.enqueue("common", 0.5)
    site.burst()
    pids = {job.refresh().return_value for job in (first, second, killer)}
    assert len(pids) == 3
    assert outcomes(killer) == ["CRASHED", "SUCCESSFUL"]
    assert outcomes(common.refresh()) == ["SUCCESSFUL"]


# --- timeouts and cancelling -------------------------------------------------------------------


def test_soft_timeout_lets_the_task_clean_up(site: Site) -> None:
    job = listen_to_timeout.enqueue()
    site.burst()
    assert job.refresh().status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "JobTimeout"
    assert site.witnessed() == ["cleaned up"]


def test_hard_timeout_stops_code_without_checkpoints(site: Site) -> None:
    job = ignore_timeout.enqueue(60.0)
    with site.worker(FLASK_OFFLOAD_TIMEOUT_GRACE="0.2"):
        sibling = note_slowly.enqueue("sibling", 2.0)
        job.wait(30)
        sibling.wait(30)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "JobTimeout"
    assert "by force" in job.error.message
    assert sibling.status is JobStatus.SUCCESSFUL
    assert "CRASHED" not in outcomes(sibling)  # it paid for nothing


def test_hard_timeout_follows_the_retry_policy(site: Site) -> None:
    job = ignore_timeout_once.enqueue()
    with site.worker(FLASK_OFFLOAD_TIMEOUT_GRACE="0.2"):
        assert job.wait(30).return_value == 2
    assert outcomes(job) == ["RETRY", "SUCCESSFUL"]


def test_a_cancelled_waiting_job_never_starts(site: Site) -> None:
    job = note.enqueue("never")
    assert job.cancel().status is JobStatus.CANCELLED
    site.burst()
    assert site.witnessed() == []


def test_a_running_job_learns_that_it_is_cancelled(site: Site) -> None:
    job = wait_for_cancel.enqueue()
    with site.worker():
        site.wait_for_witness("waiting")
        job.cancel()
        job.wait(20)
    assert job.status is JobStatus.CANCELLED
    assert site.witnessed() == ["waiting", "heard it"]


def test_cancel_by_force_stops_a_job_without_checkpoints(site: Site) -> None:
    job = deaf.enqueue(60.0)
    with site.worker():
        site.wait_for_witness("deaf")
        job.cancel(force=True)
        job.wait(20)
        assert add.enqueue(1, 2).wait(20).return_value == 3
    assert job.status is JobStatus.CANCELLED


# --- async -------------------------------------------------------------------------------------


def test_hundreds_of_async_jobs_at_once(site: Site) -> None:
    jobs = site.offload.enqueue_many([sleep_async.call(1.0) for _ in range(200)])
    with site.worker("--threads", "1"):
        began = time.monotonic()
        for job in jobs:
            job.wait(60)
        took = time.monotonic() - began
    assert {job.return_value for job in jobs} == {"slept in jobs_app.sleep_async"}
    assert took < 200 / 4  # one after the other would be 200 s; 100 at once is two rounds


def test_async_jobs_are_limited_by_the_option(site: Site) -> None:
    jobs = site.offload.enqueue_many([sleep_async.call(0.2) for _ in range(7)])
    with site.worker("--async-concurrency", "3"):
        runs = [attempt for job in jobs for attempt in job.wait(60).attempts]
    assert len(runs) == 7
    at_once = [
        sum(run.started_at <= other.started_at < run.finished_at for run in runs)  # type: ignore[operator]
        for other in runs
    ]
    assert max(at_once) == 3


def test_async_timeout_and_cancel(site: Site) -> None:
    late, cancelled = sleep_too_long.enqueue(), sleep_until_cancelled.enqueue()
    with site.worker():
        site.wait_for_witness("sleeping")
        cancelled.cancel()
        assert late.wait(20).error is not None
        cancelled.wait(20)
    assert late.status is JobStatus.FAILED
    assert late.error is not None
    assert late.error.type == "JobTimeout"
    assert cancelled.status is JobStatus.CANCELLED
    assert site.witnessed() == ["sleeping", "woken"]


# --- stopping ----------------------------------------------------------------------------------


def test_sigterm_finishes_what_runs_and_puts_the_rest_back(site: Site) -> None:
    running_job = note_slowly.enqueue("work", 1.0)
    waiting = note.using(priority=-1).enqueue("later")
    with site.worker("--threads", "1") as worker:
        site.wait_for_witness("start work")
        assert worker.stop() == 0, str(worker)
    assert running_job.refresh().status is JobStatus.SUCCESSFUL
    assert waiting.refresh().status is JobStatus.READY
    assert waiting.attempts == []
    assert site.workers() == []


def test_an_idle_worker_stops_promptly(site: Site) -> None:
    with site.worker() as worker:
        began = time.monotonic()
        worker.send(signal.SIGINT)
        assert worker.wait(30) == 0
        assert time.monotonic() - began < 15  # the drain timeout is 30


def test_drain_timeout_puts_a_long_job_back_at_no_cost(site: Site) -> None:
    job = deaf.enqueue(60.0)
    careful = note_once.enqueue("careful", 60.0)
    with site.worker("--drain-timeout", "0.3") as worker:
        site.wait_for_witness("deaf")
        site.wait_for_witness("start careful")
        assert worker.stop() == 0
    assert job.refresh().status is JobStatus.READY
    assert outcomes(job) == ["INTERRUPTED"]
    assert careful.refresh().status is JobStatus.FAILED  # it may not run twice


def test_a_second_signal_stops_at_once(site: Site) -> None:
    job = deaf.enqueue(60.0)
    with site.worker() as worker:
        site.wait_for_witness("deaf")
        worker.send(signal.SIGTERM)
        wait_until(lambda: any(found.stopping for found in site.workers()))
        worker.send(signal.SIGTERM)
        assert worker.wait(30) == 0
    assert job.refresh().status is JobStatus.READY


def test_a_resumable_job_goes_on_in_the_next_worker(site: Site) -> None:
    job = resume.enqueue(20, 0.1)
    with site.worker() as worker:
        site.wait_for_witness("step 4")
        assert worker.stop() == 0
    assert job.refresh().status is JobStatus.READY
    assert outcomes(job) == ["INTERRUPTED"]
    with site.worker():
        job.wait(20)
    steps = [line for line in site.witnessed() if line.startswith("step")]
    assert steps == [f"step {number}" for number in range(20)]
    assert job.return_value == 20


def test_a_resumable_job_goes_on_after_a_crash(site: Site) -> None:
    job = resume.enqueue(20, 0.1)
    with site.worker() as worker:
        site.wait_for_witness("step 8")
        for child in descendants(worker.pid):
            kill9(child)
        job.wait(30)
    assert outcomes(job) == ["CRASHED", "SUCCESSFUL"]
    started = [line for line in site.witnessed() if line.startswith("from")]
    assert int(started[1].split()[1]) > 0


def test_the_app_that_cannot_be_imported_is_reported(site: Site) -> None:
    from support import running

    command = site.command("worker")
    command[command.index("jobs_app")] = "no_such_app"
    with running(command, env=site.env, cwd=site.folder) as process:
        assert process.wait(30) == 78
    assert "can't import the app" in process.output()
    assert "Traceback" not in process.output()  # nothing of the app's own has failed
    assert os.listdir(site.folder) == []
