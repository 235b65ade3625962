"""The commands on jobs and queues: what they print for people and for machines."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo

from cli_app import Shop, add, offload, send
from flask_offload import Job, JobStatus, Offload
from flask_offload.admin.sqlite_pruning import STRAY
from flask_offload.cli import COMMANDS, offload_group, spot
from flask_offload.profiler.store import Batch, SpotRow, write
from flask_offload.testing import drain, travel
from flask_offload.worker.settings import worker_settings
from store_support import tick
from support import APP_PATH

JOB_FIELDS = {
    *("id", "task", "queue_name", "priority", "status", "run_after", "enqueued_at", "started_at"),
    *("finished_at", "attempts", "progress", "return_value", "error"),
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    with made.app.app_context():
        yield made
    made.engine.close()


def three_jobs(shop: Shop) -> tuple[Job, Job, Job]:
    """One that succeeded, one that failed, one that waits."""
    good = add.using(owner="user:7").enqueue(1, b=2)
    bad = send.enqueue("unknown@example.org")
    drain(shop.app)
    waiting = add.using(run_after=timedelta(hours=1), priority=5).enqueue(3)
    return good.refresh(), bad.refresh(), waiting


# --- jobs, job ---------------------------------------------------------------------------------


def test_jobs_lists_the_newest_first(shop: Shop) -> None:
    good, bad, waiting = three_jobs(shop)
    header, *lines = shop.text("jobs").splitlines()
    assert header.split() == ["id", "status", "task", "details", "queue", "enqueued"]
    assert [line.split()[0] for line in lines] == [waiting.id, bad.id, good.id]
    assert re.search(r"READY +cli_app.add +due in (59|60) min +default +just now$", lines[0])
    assert "ConnectionError: no route to unknown@example.org  mail" in lines[1]
    assert re.search(r"SUCCESSFUL .* took \d+ ms +default", lines[2])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--status", "failed"], ["bad"]),
        (["--status", "READY"], ["waiting"]),
        (["--task", "cli_app.add"], ["waiting", "good"]),
        (["--queue", "mail"], ["bad"]),
        (["--owner", "user:7"], ["good"]),
        (["--limit", "2"], ["waiting", "bad"]),
        (["--task", "cli_app.add", "--status", "successful"], ["good"]),
        (["--queue", "nothing"], []),
    ],
)
def test_jobs_are_filtered(shop: Shop, arguments: list[str], expected: list[str]) -> None:
    names = dict(zip((job.id for job in three_jobs(shop)), ["good", "bad", "waiting"], strict=True))
    assert [names[job["id"]] for job in shop.json("jobs", *arguments)] == expected
    if not expected:
        assert shop.text("jobs", *arguments) == "No such jobs.\n"


def test_an_empty_store_is_reported(shop: Shop) -> None:
    assert shop.text("jobs") == "No jobs.\n"
    assert shop.json("jobs") == shop.json("queues") == []
    assert shop.text("queues") == "No queues: no job has been enqueued yet.\n"


def test_the_documents_have_the_names_of_the_job(shop: Shop) -> None:
    good, bad, waiting = three_jobs(shop)
    for document in [*shop.json("jobs"), shop.json("job", good.id)]:
        assert document.keys() >= JOB_FIELDS
    (listed,) = (found for found in shop.json("jobs") if found["id"] == good.id)
    document = shop.json("job", good.id)
    assert document == {**listed, **{name: document[name] for name in ("arguments", "log")}}
    assert document["status"] == "SUCCESSFUL"
    assert document["return_value"] == 3
    assert document["arguments"] == [[1], {"b": 2}]
    assert document["owner"] == "user:7"
    assert datetime.fromisoformat(document["finished_at"]) == good.finished_at
    assert document["finished_at"].endswith("Z")
    document = shop.json("job", bad.id)
    assert document["error"].keys() == {"type", "message", "traceback"}
    assert [attempt["outcome"] for attempt in document["attempts"]] == ["RETRY", "FAILED"]
    assert document["progress"] == {
        "done": 1,
        "total": 4,
        "fraction": 0.25,
        "message": "connecting",
    }
    assert shop.json("job", waiting.id)["run_after"] is not None


def test_job_shows_everything(shop: Shop) -> None:
    good, bad, waiting = three_jobs(shop)
    text = shop.text("job", good.id)
    assert "cli_app.add(a=1, b=2)" in text
    assert "owner user:7" in text
    assert re.search(r"^returned +3$", text, re.M)
    text = shop.text("job", bad.id)
    assert re.search(r"^status +FAILED$", text, re.M)
    assert re.search(r"^progress +1/4 \(25%\) connecting$", text, re.M)
    assert text.count("\nattempt ") == 2
    assert text.count("raise ConnectionError(") == 2
    assert re.search(r"^status +READY, due in (59|60) min$", shop.text("job", waiting.id), re.M)


def test_the_beginning_of_an_id_will_do(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = offload.enqueue_many(add.call(number) for number in range(30))
    monkeypatch.setattr("flask_offload.cli.listing.terminal_width", lambda: 100)
    _, *lines = shop.text("jobs", "--limit", "30").splitlines()
    shown = [line.split()[0] for line in lines]
    assert len(set(shown)) == 30
    assert max(map(len, shown)) < len(jobs[0].id)
    assert [shop.json("job", short)["id"] for short in shown[:2]] == [jobs[29].id, jobs[28].id]
    assert shop.json("job", f"#{shown[0]}")["id"] == jobs[29].id
    assert "several jobs" in shop.error("job", jobs[0].id[:8])
    assert "no job" in shop.error("job", jobs[0].id[:7])
    assert "no job" in shop.error("cancel", "")


def test_what_a_task_or_a_caller_wrote_can_not_play_tricks_on_the_terminal(shop: Shop) -> None:
    send.using(owner="\x1b[2Jme").enqueue("\x1b[31m\u202eevil\n")
    drain(shop.app)
    job_id = shop.json("jobs")[0]["id"]
    for output in (
        shop.text("jobs"),
        shop.text("job", job_id),
        shop.text("job", job_id, "--json"),
        shop.text("jobs", "--json"),
    ):
        assert all(char.isprintable() or char == "\n" for char in output)
        assert "\x1b" not in output
        assert "\u202e" not in output


class Odd:
    """A result that JSON has no word for."""

    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (datetime(2027, 1, 1, tzinfo=UTC), "2027-01-01T00:00:00Z"),
        ({1: (2, b"x")}, {"1": [2, "eA=="]}),
        (float("nan"), None),
        (Odd(), "odd"),
    ],
)
def test_results_that_json_has_no_word_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, value: object, shown: object
) -> None:
    monkeypatch.setattr(Job, "return_value", value)
    add.enqueue(1)
    (job,) = drain(shop.app)
    assert shop.json("job", job.id)["return_value"] == shown


def test_a_result_that_can_not_be_read_any_more_is_shown_as_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(job: Job) -> Any:
        raise LookupError("the class is gone")

    add.enqueue(1, 2)
    (job,) = drain(shop.app)
    monkeypatch.setattr(Job, "return_value", property(unreadable))
    assert shop.json("job", job.id)["return_value"] == 3


# --- retry, cancel -----------------------------------------------------------------------------


def test_retry_runs_failed_jobs_again(shop: Shop) -> None:
    good, bad, _ = three_jobs(shop)
    assert shop.text("retry", bad.id) == f"job {bad.id} is queued again\n"
    assert bad.refresh().status is JobStatus.READY
    assert "can't be retried" in shop.error("retry", good.id)
    assert "there is no job 'nope'" in shop.error("retry", "nope")


def test_cancel_ends_waiting_jobs_and_asks_running_ones(shop: Shop) -> None:
    good, _, waiting = three_jobs(shop)
    assert shop.text("cancel", waiting.id) == f"job {waiting.id} is CANCELLED\n"
    assert "can't be cancelled: it is finished" in shop.error("cancel", good.id)
    running = add.enqueue(1)
    shop.engine.database.write(
        lambda connection: connection.execute(
            "UPDATE jobs SET state = 'running', worker = 'w', attempt = 1 WHERE id = ?",
            (running.id,),
        ).fetchall()
    )
    assert "has been asked to stop" in shop.text("cancel", running.id)
    assert shop.json("job", running.id)["cancel_requested"] is True
    assert "asked to stop" in shop.text("jobs", "--limit", "1")
    assert "still RUNNING: no worker" in shop.text("cancel", running.id, "--force")
    read = shop.engine.database.read
    assert read(lambda c: c.execute("SELECT max(cancel) FROM jobs").get) == 2


def test_of_several_jobs_those_that_can_be_changed_are(shop: Shop) -> None:
    one, two = (add.using(run_after=timedelta(hours=1)).enqueue(n) for n in (1, 2))
    result = shop.run("cancel", one.id, "nope", two.id, one.id, "--json")
    assert result.exit_code == 1
    assert [job["id"] for job in json.loads(result.stdout)] == [one.id, two.id]
    assert result.stderr == (
        "Error: there is no job 'nope': give its id, or at least the first 8 characters of it\n"
    )
    assert {job.refresh().status for job in (one, two)} == {JobStatus.CANCELLED}


# --- queues, schedules -------------------------------------------------------------------------


def test_a_queue_is_paused_and_resumed(shop: Shop) -> None:
    send.enqueue("a@example.org")
    assert shop.text("pause", "mail") == "queue mail paused; 1 ready, 0 running\n"
    assert drain(shop.app) == []
    assert re.search(r"^mail +1 +0 +just now$", shop.text("queues"), re.M)
    (queue,) = shop.json("queues")
    assert queue.keys() == {"name", "ready", "running", "paused_at"}
    assert datetime.fromisoformat(queue["paused_at"]).tzinfo is UTC
    assert shop.json("resume", "mail")["paused_at"] is None
    assert len(drain(shop.app)) == 1


def test_a_mistyped_queue_is_noticed(shop: Shop) -> None:
    send.enqueue("a@example.org")
    result = shop.run("pause", "mial", input="n\n")
    assert result.exit_code == 1
    assert (
        "No task uses the queue mial, and no job has been in it. Did you mean 'mail'?"
        " Known: default, mail.\n"
    ) in result.stderr
    assert [queue.name for queue in shop.engine.queues()] == ["mail"]
    assert "Confirm with --yes" in shop.error("pause", "mial", "--json")
    assert shop.text("pause", "mial", "--yes") == "queue mial paused; 0 ready, 0 running\n"
    assert "64 letters" in shop.error("pause", "no such name")


def test_schedules_tell_their_next_and_last_run(shop: Shop) -> None:
    (row,) = shop.json("schedules")
    assert row["name"] == "sweep"
    assert row["task"] == "cli_app.sweep"
    assert row["schedule"] == "30 3 29 2 *"
    assert (row["last_run"], row["last_job"], row["registered"]) == (None, None, True)
    next_run = datetime.fromisoformat(row["next_run"])
    assert (next_run.month, next_run.day, next_run.hour, next_run.minute) == (2, 29, 3, 30)
    assert next_run > datetime.now(UTC)
    text = shop.text("schedules")
    assert re.search(r"^sweep +cli_app\.sweep +30 3 29 2 \* +in .* not yet$", text, re.M)
    with travel(shop.app, next_run):
        (job,) = drain(shop.app)
        (row,) = shop.json("schedules")
        assert datetime.fromisoformat(row["last_run"]) == next_run
        assert row["last_job"] == job.id
        following = datetime.fromisoformat(row["next_run"])
        assert timedelta(days=1400) < following - next_run < timedelta(days=2930)


def test_a_schedule_that_is_no_longer_declared_is_an_orphan(shop: Shop) -> None:
    (spec,) = worker_settings(shop.state).schedules
    spec.name = "old"
    tick(shop.engine, spec, shop.engine.clock())
    rows = {row["name"]: row for row in shop.json("schedules")}
    assert (rows["old"]["registered"], rows["old"]["next_run"]) == (False, None)
    assert rows["sweep"]["registered"] is True
    assert "never (orphan)" in shop.text("schedules")


def test_a_schedule_with_new_times_shows_those(shop: Shop) -> None:
    (spec,) = worker_settings(shop.state).schedules
    spec.cron = "0 0 31 12 *"
    tick(shop.engine, spec, shop.engine.clock())
    (row,) = shop.json("schedules")
    assert row["schedule"] == "30 3 29 2 *"
    assert datetime.fromisoformat(row["next_run"]).month == 2


# --- prune -------------------------------------------------------------------------------------


def finished(shop: Shop, count: int, *, ago: timedelta = timedelta(), size: int = 1) -> None:
    """Jobs that succeeded some time ago."""
    text = "x" * size
    offload.enqueue_many(send.call(text) for _ in range(count))
    at = shop.engine.clock() - ago.total_seconds()
    shop.engine.database.write(
        lambda connection: connection.execute(
            "UPDATE jobs SET state = 'successful', attempt = 1, started_at = ?1, finished_at = ?1,"
            " expires_at = ?1 + 86400 WHERE state = 'ready'",
            (at,),
        ).fetchall()
    )


def test_prune_deletes_what_retention_lets_go(shop: Shop) -> None:
    finished(shop, 3, ago=timedelta(days=2))
    finished(shop, 2)
    waiting = add.enqueue(1)
    assert shop.json("prune")["jobs"] == 3
    assert len(shop.json("jobs")) == 3
    assert waiting.refresh().status is JobStatus.READY


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--before", "7d"], 6),
        (["--before", "5h"], 4),
        (["--before", "90 min"], 2),
        (["--all-finished"], 1),
    ],
)
def test_prune_goes_by_age(shop: Shop, arguments: list[str], left: int) -> None:
    for hours in (1, 2, 3, 6, 7):
        finished(shop, 1, ago=timedelta(hours=hours))
    add.enqueue(1)
    assert shop.json("prune", *arguments)["jobs"] == 6 - left
    assert len(shop.json("jobs")) == left


def test_prune_works_in_batches_and_gives_the_space_back(shop: Shop) -> None:
    finished(shop, 1300, size=4000)
    kept = add.enqueue(1)
    numbers = shop.json("prune", "--all-finished")
    assert numbers["jobs"] == 1300
    assert numbers["bytes_before"] > 4_000_000
    assert numbers["bytes_after"] < 500_000
    assert numbers["bytes_after"] == shop.database.stat().st_size
    counts = "SELECT (SELECT count(*) FROM payloads) + (SELECT count(*) FROM attempts)"
    assert shop.engine.database.read(lambda connection: connection.execute(counts).get) == 0
    assert kept.refresh().status is JobStatus.READY
    assert shop.text("prune").startswith("Deleted 0 jobs. The database takes ")


def test_prune_sweeps_files_that_no_job_knows(shop: Shop) -> None:
    spool = shop.state.spool
    assert spool is not None
    stray, fresh = (spool.save(io.BytesIO(b"left by a process that died")) for _ in range(2))
    old = datetime.now().timestamp() - STRAY - 60
    os.utime(spool.folder / stray, (old, old))
    assert shop.json("prune")["files"] == 1
    assert [path.name for path in spool.folder.iterdir()] == [fresh]


# --- spot --------------------------------------------------------------------------------------


def quick_requests() -> Batch:
    batch = Batch()
    batch.route("GET", "/").seconds += [0.01, 0.02]
    return batch


def test_spot_says_when_there_is_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path, OFFLOAD_SPOT=False)
    assert "profiling is off here (OFFLOAD_SPOT)" in shop.text("spot")
    assert shop.json("spot") == []
    watching = Shop(tmp_path, OFFLOAD_SPOT=True, OFFLOAD_SPOT_ABOVE=150)
    assert watching.text("spot") == "No request was slower than 150 ms so far.\n"
    assert "on in debug" in Shop(tmp_path).text("spot")
    write(shop.database.with_name(shop.database.name + "-evidence.sqlite3"), quick_requests())
    assert Shop(tmp_path).text("spot") == "No request was slower than 200 ms so far.\n"


def test_spot_names_the_function_to_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path)
    store = shop.state.profiler_settings().store_path
    evidence = [
        SpotRow(
            "POST /signup", 40, 810.0, 950.0, "signup", "app.py", 12, 0.9, True, 3, "task", "Slow."
        ),
        SpotRow(
            "GET /list", 7, 301.4, 400.0, "load", "data.py", 3, 0.5, None, 0, "leave", "Slow, too."
        ),
    ]

    def forget(path: Path) -> None:
        assert path == store
        evidence.clear()

    monkeypatch.setattr(spot, "spot_rows", {store: evidence}.__getitem__)
    monkeypatch.setattr(spot, "forget_samples", forget)
    assert shop.json("spot") == [
        {
            "route": "POST /signup",
            "count": 40,
            "p50_ms": 810.0,
            "p95_ms": 950.0,
            "function": "signup",
            "file": "app.py",
            "line": 12,
            "share": 0.9,
            "waiting": True,
            "queries": 3,
            "advice": "task",
            "sentence": "Slow.",
        },
        {**asdict(evidence[1])},
    ]
    text = shop.text("spot", "--limit", "1")
    assert re.search(r"^POST /signup +40 +810 +950 +90% +task +signup +app\.py:12$", text, re.M)
    assert text.endswith("\n\n- Slow.\n")
    assert "/list" not in text
    evidence.append(
        SpotRow("GET /", 1, 300.0, 300.0, "(not seen)", "", 0, 1.0, None, 0, "", "Unseen.")
    )
    assert re.search(r"^GET / .*\(not seen\)$", shop.text("spot"), re.M)
    assert shop.json("spot", "--forget") == shop.json("spot") == []


# --- all commands ------------------------------------------------------------------------------


def test_every_command_prints_one_json_document(shop: Shop) -> None:
    _, bad, waiting = three_jobs(shop)
    for arguments in (
        ["jobs"],
        ["job", bad.id],
        ["retry", bad.id],
        ["cancel", waiting.id],
        ["pause", "mail"],
        ["resume", "mail"],
        ["queues"],
        ["schedules"],
        ["prune"],
        ["spot"],
    ):
        shop.json(*arguments)
    assert shop.json("check", code=1)["ok"] is False  # a job is ready and no worker runs


def test_every_command_can_be_loaded_and_has_help(shop: Shop) -> None:
    text = shop.text("--help")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w", text, re.M)
        assert shop.text(name, "--help").startswith("Usage:")


def test_what_an_engine_can_not_do_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path, OFFLOAD_ENGINE="inline")
    for arguments in (["pause", "mail"], ["resume", "mail"], ["schedules"], ["prune"]):
        assert "the inline engine can't do this" in shop.error(*arguments)
    with shop.app.app_context():
        job = add.enqueue(1, 2)
        assert shop.json("jobs")[0]["id"] == job.id
        assert shop.json("job", job.id)["return_value"] == 3
        failed = send.enqueue("x")
        assert "ran again: FAILED" in shop.text("retry", failed.id)
        assert shop.json("queues")[0]["name"] == "default"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "--status", "done"], "'done' is not one of"),
        (["jobs", "--limit", "0"], "not in the range"),
        (["prune", "--before", "3x"], "'3x' is not an age: write a number and s, min, h, d, w"),
        (["prune", "--before", "7d", "--all-finished"], "exclude each other"),
        (["job"], "Missing argument 'ID'"),
        (["worker", "--queue", "mail,pdf"], "'mail,pdf' can't be used"),
    ],
)
def test_wrong_use_is_explained(shop: Shop, arguments: list[str], said: str) -> None:
    result = shop.run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def broken_app() -> Flask:
    raise LookupError("no such\nthing")


def badly_configured() -> Flask:
    app = Flask("bad")
    app.config["OFFLOAD_ENGINE"] = "sqlte"
    offload.init_app(app)
    return app


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (lambda: Flask("bare"), "This app has no Flask-Offload: call offload.init_app(app)"),
        (badly_configured, "OFFLOAD_ENGINE = 'sqlte' is not installed; there are: "),
        (broken_app, rf"LookupError: no such\nthing ({__file__}, line "),
    ],
)
@pytest.mark.parametrize("command", ["jobs", "queues", "check"])
def test_an_app_that_can_not_be_used_is_reported_in_one_sentence(
    create: Any, said: str, command: str
) -> None:
    runner = CliRunner()
    result = runner.invoke(offload_group, [command], obj=ScriptInfo(create_app=lambda: create()))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_database_that_can_not_be_used_is_reported_in_one_sentence(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.database.write_bytes(b"no database at all" * 100)
    assert "is not a usable job database" in shop.error("jobs")


@pytest.mark.processes
def test_the_commands_work_in_a_real_process(shop: Shop) -> None:
    job = add.enqueue(1, 2)
    command = [sys.executable, "-m", "flask", "--app", "jobs_app", "offload"]
    environment = {
        **os.environ,
        "FLASK_OFFLOAD_SQLITE_PATH": str(shop.database),
        "PYTHONPATH": APP_PATH,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=shop.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert json.loads(run("jobs", "--json").stdout)[0]["id"] == job.id
    missing = run("job", "nope")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("Error: there is no job 'nope'")


def test_a_terminal_shows_no_secrets(tmp_path: Path) -> None:
    """Those of OFFLOAD_DASHBOARD_MASK, as on the dashboard."""
    app = Flask("app", instance_path=str(tmp_path))
    app.config.update(OFFLOAD_WORKER="off", OFFLOAD_SQLITE_PATH=str(tmp_path / "jobs.sqlite3"))
    offload = Offload(app)

    @offload.task(name="reset")
    def reset(user: int, reset_token: str) -> None: ...

    @offload.task(name="charge", expose_args=False)
    def charge(number: str) -> None: ...

    with app.app_context():
        jobs = [reset.enqueue(7, "s3cret"), charge.enqueue("4242")]
    runner = app.test_cli_runner()
    first, second = (runner.invoke(args=["offload", "job", job.id]).output for job in jobs)
    assert "reset(user=7, reset_token=••••••)" in first
    assert "charge(…)" in second
    assert "4242" not in second
    with app.app_context():
        offload.engine.close()
