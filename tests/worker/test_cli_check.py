"""`flask offload check`: it says that all is well, and finds what is not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo

import jobs_app
from cli_app import Shop, add, offload, send
from flask_offload.admin import sqlite_findings as checks
from flask_offload.admin.sqlite_findings import check_sqlite
from flask_offload.cli import offload_group
from flask_offload.engines.sqlite.claims import SqliteClaims
from flask_offload.engines.sqlite.recovery import register, set_stopping, unregister
from flask_offload.engines.sqlite.schema import MIGRATIONS
from flask_offload.engines.store import Retention, StoreOptions
from flask_offload.engines.worker_locks import Registration, run_folder
from flask_offload.jobs.new_job import THREADS
from flask_offload.testing import Clock, drain, travel
from flask_offload.worker.settings import worker_settings
from jobs_server import make_site
from store_support import tick
from support import running

MINUTE = timedelta(minutes=1)
RETENTION = Retention(60, 60, 100)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    with made.app.app_context():
        yield made
    made.engine.close()


@contextmanager
def worker(shop: Shop, *queues: str) -> Iterator[SqliteClaims]:
    """What a living worker is to others: a row, and a lock that is held."""
    registration = Registration(run_folder(shop.database), 10)
    options = StoreOptions(
        kind="command",
        retention=RETENTION,
        places=10,
        capacity=4,
        queues=frozenset(queues) or None,
    )
    try:
        register(shop.engine, registration.id, options)
        yield SqliteClaims(shop.engine, registration.id, RETENTION)
        unregister(shop.engine, registration.id)
    finally:
        registration.close()


def findings(shop: Shop, level: str) -> dict[str, str]:
    """What `check` says at this level, by check; the exit code must fit."""
    result = shop.run("check", "--json")
    document = json.loads(result.stdout)
    found: dict[str, dict[str, str]] = {"ok": {}, "note": {}, "problem": {}}
    for finding in document["findings"]:
        found[finding["level"]][finding["check"]] = finding["message"]
    assert document["ok"] is not bool(found["problem"])
    assert result.exit_code == bool(found["problem"])
    return found[level]


def problem(shop: Shop) -> tuple[str, str]:
    """The one problem that there is: its check and its message."""
    ((check, message),) = findings(shop, "problem").items()
    return check, message


def write(shop: Shop, statement: str, *bindings: Any) -> None:
    shop.engine.database.write(
        lambda connection: connection.execute(statement, bindings).fetchall()
    )


# --- all is well -------------------------------------------------------------------------------


def test_an_app_that_has_not_enqueued_anything_is_well_and_nothing_is_made(shop: Shop) -> None:
    text = shop.text("check")
    assert text.endswith("\nNo problems.\n")
    assert f"{shop.database} is made with the first job" in text
    assert "SQLite 3." in text
    assert not shop.database.exists()
    assert list(findings(shop, "note")) == ["worker"]


def test_an_app_with_a_worker_is_well(shop: Shop) -> None:
    drain(shop.app)
    add.enqueue(1)
    with worker(shop) as worker_store:
        assert findings(shop, "problem") == findings(shop, "note") == {}
        found = findings(shop, "ok")
        assert (
            found["worker"]
            == f"{worker_store.worker_id} (flask offload worker, all queues, 4 threads)"
        )
        assert found["database"] == f"{shop.database}, version {max(MIGRATIONS)}, quick_check ok"
        assert found.keys() == {
            *("configuration", "sqlite", "file system", "database", "permissions", "log size"),
            *("worker", "queues", "tasks", "waiting", "invariants", "clock", "schedules"),
        }


def test_the_levels_are_words_in_columns(shop: Shop) -> None:
    *lines, empty, end = shop.text("check").splitlines()
    assert {line[:9] for line in lines} == {"ok       ", "note     "}
    assert {line[22:24].strip() for line in lines} == {""}, "a column of its own for the check"
    assert (empty, end) == ("", "No problems.")
    assert "\x1b" not in "".join(lines), "no colours where no terminal is"


# --- no worker -------------------------------------------------------------------------------


def test_ready_jobs_without_a_worker_are_a_problem(shop: Shop) -> None:
    add.enqueue(1)
    check, message = problem(shop)
    assert check == "worker"
    assert message.startswith("1 job ready (in default) and no worker runs: the web process")
    drain(shop.app)
    add.using(run_after=timedelta(hours=1)).enqueue(2)
    assert "the first request" in findings(shop, "note")["worker"], "until the job is due"


def test_no_worker_where_the_app_keeps_none_is_a_problem(tmp_path: Path) -> None:
    shop = Shop(tmp_path, OFFLOAD_WORKER="off")
    expected = "OFFLOAD_WORKER is 'off', no worker runs: start `flask offload worker`"
    assert problem(shop) == ("worker", expected)
    with shop.app.app_context():
        add.enqueue(1)
    assert "no worker runs and 1 job ready (in default): start" in problem(shop)[1]
    with worker(shop):
        assert findings(shop, "problem") == {}
    shop.engine.close()


def test_a_queue_that_no_worker_serves(shop: Shop) -> None:
    with worker(shop, "default"):
        found = findings(shop, "note")
        assert found == {
            "queues": "no running worker serves mail, though a task uses it: start one with"
            " --queue mail"
        }
        send.enqueue("a")
        check, message = problem(shop)
        assert check == "queues"
        assert message.startswith("no running worker serves mail, while 1 job in it wait")
        with worker(shop, "mail"):
            assert findings(shop, "problem") == {}


def test_a_worker_that_is_stopping_serves_no_queue(shop: Shop) -> None:
    add.enqueue(1)
    with worker(shop) as worker_store:
        set_stopping(shop.engine, worker_store.worker_id)
        assert "threads, stopping)" in findings(shop, "ok")["worker"]
        assert problem(shop)[1].startswith("no running worker serves default")


def test_a_paused_queue_is_a_note(shop: Shop) -> None:
    send.enqueue("a")
    shop.engine.pause("mail")
    with worker(shop, "default"):
        assert findings(shop, "problem") == {}
        assert "mail is paused for " in findings(shop, "note")["queues"]
        assert "with 1 job waiting" in findings(shop, "note")["queues"]


def test_jobs_of_a_task_that_is_gone(shop: Shop) -> None:
    add.enqueue(1)
    write(shop, "UPDATE jobs SET task = 'shop.gone'")
    with worker(shop):
        check, message = problem(shop)
        assert check == "tasks"
        assert message.startswith("1 job of shop.gone waiting, and this app has no such task")


# --- jobs that don't get on --------------------------------------------------------------------


def test_jobs_of_a_dead_worker(shop: Shop) -> None:
    add.enqueue(1)
    with worker(shop) as worker_store:
        (claim,) = worker_store.exchange([], {THREADS: 1}).claims
        assert findings(shop, "problem") == {}
    check, message = problem(shop)
    assert check == "invariants"
    dead = f"the dead worker {worker_store.worker_id}"
    assert message == f"1 job RUNNING under {dead}: the next one puts back what it held"
    with worker(shop):
        assert "the living one has not put back what it held" in problem(shop)[1]
    assert claim.id


def test_a_job_that_changes_hands_is_no_problem(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    add.enqueue(1)
    with worker(shop) as worker_store:
        (claim,) = worker_store.exchange([], {THREADS: 1}).claims
    looks = []

    def recover_meanwhile(seconds: float) -> None:
        looks.append(seconds)
        worker_store.give_back([claim])

    monkeypatch.setattr(time, "sleep", recover_meanwhile)
    assert list(findings(shop, "problem")) == ["worker"]
    assert len(looks) == 1


def test_a_low_priority_that_starves(shop: Shop) -> None:
    with worker(shop) as worker_store, travel(shop.app) as clock:
        add.using(priority=-5).enqueue(1)
        clock.move(MINUTE)
        send.enqueue("urgent")
        worker_store.exchange([], {THREADS: 1})
        clock.move(8 * MINUTE)
        assert findings(shop, "problem") == {}
        assert "waited 9 min" in findings(shop, "note")["waiting"]
        clock.move(2 * MINUTE)
        check, message = problem(shop)
        assert check == "waiting"
        assert message.startswith("1 job of priority -5 in default starve: the oldest has waited")


def test_waiting_long_is_no_starving_while_no_job_overtakes(shop: Shop) -> None:
    with worker(shop) as worker_store, travel(shop.app) as clock:
        send.enqueue("first")
        clock.move(MINUTE)
        add.using(priority=-5).enqueue(1)
        worker_store.exchange([], {THREADS: 1})
        clock.move(60 * MINUTE)
        assert findings(shop, "problem") == {}
        assert "waited 1 h, in default" in findings(shop, "note")["waiting"]


def test_a_younger_job_of_the_same_priority_does_not_overtake(shop: Shop) -> None:
    with worker(shop) as worker_store, travel(shop.app) as clock:
        add.using(queue_name="patient").enqueue(1)
        clock.move(MINUTE)
        send.enqueue("another queue")
        shop.engine.pause("patient")
        worker_store.exchange([], {THREADS: 1})
        shop.engine.resume("patient")
        clock.move(60 * MINUTE)
        assert findings(shop, "problem") == {}


def test_waiting_counts_from_when_the_job_could_start(shop: Shop) -> None:
    with worker(shop), travel(shop.app) as clock:
        add.using(run_after=timedelta(hours=1)).enqueue(1)
        clock.move(timedelta(hours=1))
        write(shop, "UPDATE jobs SET state = 'ready'")
        assert findings(shop, "ok")["waiting"].startswith("the oldest ready job has waited 0 ms")


def test_a_due_job_that_is_not_promoted(shop: Shop) -> None:
    with travel(shop.app) as clock:
        add.using(run_after=MINUTE).enqueue(1)
        clock.move(2 * MINUTE)
        assert problem(shop)[0] == "worker"
        with worker(shop):
            assert problem(shop) == (
                "invariants",
                "a scheduled job is 1 min late, though a worker runs",
            )


def test_a_limit_without_a_holder_that_blocks(shop: Shop) -> None:
    add.enqueue(1)
    add.enqueue(2)
    write(shop, "INSERT INTO limits VALUES ('concurrency', 'key', 1, NULL, NULL)")
    write(shop, "UPDATE jobs SET state = 'blocked', concurrency_key = 'key'")
    with worker(shop):
        message = "2 jobs waiting for the concurrency of 'key', which no job holds"
        assert problem(shop) == ("invariants", message)
        shop.engine.pause("default")
        assert findings(shop, "problem") == {}
        shop.engine.resume("default")  # and lets one through
        assert findings(shop, "problem") == {}
        write(shop, "UPDATE jobs SET state = 'throttled', concurrency_key = NULL, rate_key = 'key'")
        assert "for the rate of 'key'" in problem(shop)[1]
        wake_at = shop.engine.clock() + 60
        write(shop, "INSERT INTO limits VALUES ('rate', 'key', 1, 60, ?)", wake_at)
        assert findings(shop, "problem") == {}


# --- time --------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back(shop: Shop) -> None:
    with travel(shop.app, timedelta(hours=2)):
        add.enqueue(1)
    check, message = problem_besides(shop, "worker")
    assert check == "clock"
    assert message.startswith("the database holds a moment 2 h in the future")


def problem_besides(shop: Shop, other: str) -> tuple[str, str]:
    found = findings(shop, "problem")
    del found[other]
    ((check, message),) = found.items()
    return check, message


def test_a_clock_that_was_never_set(shop: Shop) -> None:
    with travel(shop.app, datetime(1970, 1, 2, tzinfo=UTC)):
        assert problem(shop)[0] == "clock"


def test_schedules_that_are_not_declared_and_those_that_are_late(shop: Shop) -> None:
    (spec,) = worker_settings(shop.state).schedules
    with worker(shop), travel(shop.app) as clock:
        assert findings(shop, "problem") == {}
        clock.move(timedelta(days=3000))
        check, message = problem(shop)
        assert check == "schedules"
        assert message.startswith("sweep is ")
    spec.name = "old"
    with worker(shop):
        tick(shop.engine, spec, shop.engine.clock())
        message = "old is no longer declared in this app: nothing runs it"
        assert findings(shop, "note") == {"schedules": message}


# --- the database ------------------------------------------------------------------------------


def test_files_that_others_may_read(shop: Shop) -> None:
    drain(shop.app)
    assert findings(shop, "problem") == {}
    for mode in (0o604, 0o640):
        shop.database.chmod(mode)
        check, message = problem(shop)
        assert check == "permissions"
        assert (
            message == f"{shop.database} has mode {mode:04o}, so others may read jobs: chmod 600 it"
        )


def test_a_database_of_another_user_is_a_note(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    drain(shop.app)
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    assert "this command runs as 54321" in findings(shop, "note")["permissions"]


def test_a_folder_in_which_nothing_can_be_made(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    check, message = problem(shop)
    assert check == "database"
    assert "is not writable for this user" in message


def test_a_file_that_is_no_database(shop: Shop) -> None:
    shop.database.write_bytes(b"no database at all" * 100)
    shop.database.chmod(0o600)
    check, message = problem(shop)
    assert check == "database"
    assert "is not a usable job database" in message


def test_a_damaged_database(shop: Shop) -> None:
    offload.enqueue_many(send.call("x" * 3000) for _ in range(300))
    shop.engine.cancel(offload.enqueue_many([add.call(1)])[0].id)
    write(shop, "UPDATE jobs SET state = 'cancelled'")
    shop.engine.database.checkpoint()
    shop.engine.close()
    with shop.database.open("r+b") as file:
        file.seek(shop.database.stat().st_size // 2)
        file.write(b"\xff" * 20_000)
    message = findings(shop, "problem")["database"]
    assert "restore a backup" in message


def test_a_database_of_a_later_generation(shop: Shop) -> None:
    drain(shop.app)
    write(shop, "PRAGMA user_version = 1001")
    shop.engine.close()
    check, message = problem(shop)
    assert check == "database"
    assert "has version 1001" in message


def test_a_database_that_another_process_holds_locked(tmp_path: Path) -> None:
    shop = Shop(tmp_path, OFFLOAD_BUSY_TIMEOUT=0.05)
    drain(shop.app)
    other = apsw.Connection(str(shop.database))
    other.execute("BEGIN IMMEDIATE")
    check, message = problem(shop)
    other.close()
    assert check == "database"
    assert "has kept" in message
    shop.engine.close()


def test_a_log_that_does_not_shrink(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    add.enqueue(1)
    drain(shop.app)
    monkeypatch.setattr(checks, "LARGE_LOG", 1)
    check, message = problem(shop)
    assert check == "log size"
    assert "keeps the database open for reading" in message


def test_a_disk_that_is_full_or_far_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checks, "LITTLE_SPACE", 1 << 62)
        check, message = problem(shop)
        assert check == "file system"
        assert "when the disk is full, no job is accepted" in message
    monkeypatch.setattr(checks, "filesystem_of", lambda folder: "nfs4")
    check, message = problem(shop)
    assert check == "file system"
    assert "is on nfs4, whose locks can't be trusted: refused" in message


# --- the installation --------------------------------------------------------------------------


def test_an_old_sqlite() -> None:
    (old,) = check_sqlite(3_051_002)
    assert (old.level, old.message.partition(" has")[0]) == ("problem", "SQLite 3.51.2")
    (good,) = check_sqlite(3_051_003)
    assert good.level == "ok"


@pytest.mark.parametrize(
    ("config", "level", "said"),
    [
        ({"OFFLOAD_DURABILITY": "process"}, "note", "a power cut may lose"),
        ({"OFFLOAD_APP": "no_such_module:app"}, "problem", "no such module"),
        ({"OFFLOAD_APP": "no/such/file.py"}, "problem", "no such module"),
        ({"OFFLOAD_APP": "cli_app:create()"}, "ok", "engine sqlite"),
        ({"OFFLOAD_ENGINE": "inline", "TESTING": False}, "problem", "is meant"),
        (
            {"OFFLOAD_ENGINE": "inline", "OFFLOAD_INLINE_RAISE_ERRORS": False, "TESTING": False},
            "note",
            "schedules don't fire",
        ),
        ({"OFFLOAD_ENGINE": "inline"}, "ok", "engine inline"),
    ],
)
def test_settings_are_judged(
    tmp_path: Path, config: dict[str, object], level: str, said: str
) -> None:
    assert said in findings(Shop(tmp_path, **config), level)["configuration"]


def test_settings_that_can_not_be_used_are_one_problem_in_json_too() -> None:
    def create() -> Flask:
        app = Flask("bad")
        app.config["OFFLOAD_WORKR"] = "off"
        offload.init_app(app)
        return app

    result = CliRunner().invoke(
        offload_group, ["check", "--json"], obj=ScriptInfo(create_app=create)
    )
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    ((check, message),) = [(each["check"], each["message"]) for each in document["findings"]]
    assert (document["ok"], check) == (False, "configuration")
    assert "did you mean OFFLOAD_WORKER?" in message


@pytest.mark.processes
def test_a_real_worker_is_seen_while_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_site(tmp_path, monkeypatch) as site:

        def check() -> tuple[int, str]:
            with running(site.command("check"), env=site.env, cwd=site.folder) as process:
                return process.wait(30), process.output()

        with site.worker() as process:
            (known,) = site.workers()
            code, text = check()
            assert (code, known.id in text) == (0, True), text
            process.kill_family()
        jobs_app.add.enqueue(1, 2)
        code, text = check()
        assert (code, known.id in text, "no worker runs" in text) == (1, False, True), text


def test_the_clock_of_tests_is_the_clock_of_checks(shop: Shop) -> None:
    with travel(shop.app, timedelta(hours=1)) as clock:
        assert isinstance(clock, Clock)
        assert findings(shop, "ok")["clock"] == clock.now.strftime("%Y-%m-%d %H:%M:%S UTC")
