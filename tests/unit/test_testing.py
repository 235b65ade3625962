"""The helpers that users' tests get: drain, travel, assert_enqueued, the fixture."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from flask import Flask, current_app, has_request_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.datastructures import FileStorage

from flask_offload import (
    JobStatus,
    NotInitialized,
    Offload,
    OptionError,
    PayloadError,
    Retry,
    UnknownTask,
    UnsupportedByEngine,
    current_job,
)
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.base import Engine, Flags
from flask_offload.engines.sqlite.recovery import recover
from flask_offload.engines.store import Retention
from flask_offload.jobs.job import JobRecord
from flask_offload.testing import (
    AppJobs,
    assert_enqueued,
    assert_not_enqueued,
    drain,
    enqueued,
    travel,
)

HOUR = timedelta(hours=1)

offload = Offload()
ran: list[str] = []
mark = ContextVar("mark", default="nothing")


@offload.task
def note(text: str, times: int = 1) -> None:
    ran.extend([text] * times)


@offload.task(queue_name="mail")
def where() -> tuple[str, bool]:
    return threading.current_thread().name, bool(current_app)


@offload.task(max_attempts=3, backoff=600.0)
def third_time() -> int:
    ran.append(f"attempt {current_job.attempt}")
    if current_job.attempt < 3:
        raise ConnectionError
    return current_job.attempt


@offload.task
def fail() -> None:
    raise ValueError("no")


@offload.task
def for_ever() -> None:
    for_ever.enqueue()


@offload.task
def interrupted() -> None:
    raise KeyboardInterrupt


@offload.task
async def nap(text: str) -> str:
    await asyncio.sleep(0)
    return text


@offload.task(isolate=True)
def alone() -> str:
    return threading.current_thread().name


@offload.task(rate="2/h")
def seldom(number: int) -> None:
    ran.append(f"{number}")


@offload.task
def read(file: FileStorage) -> bytes:
    return bytes(file.read())


@offload.task
def come_back() -> None:
    if current_job.attempt == 1:
        raise Retry(after=3600)


def make_app(folder: Path, **config: Any) -> Flask:
    app = Flask("shop", instance_path=str(folder))
    app.config.update(
        {"TESTING": True, "OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"), **config}
    )
    return app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """An app on the embedded engine, its context not pushed, as in most tests of users."""
    app = make_app(tmp_path)
    offload.init_app(app)
    ran.clear()
    yield app
    offload.state_of(app).engine.close()


@pytest.fixture
def jobs(app: Flask) -> AppJobs:
    return AppJobs(app)


# --- drain -------------------------------------------------------------------------------------


def test_drain_runs_what_is_ready_in_this_thread_and_gives_it_back(app: Flask) -> None:
    with app.app_context():
        low = note.using(priority=-1).enqueue("low")
        first = note.enqueue("first")
        job = where.enqueue()
        high = alone.using(priority=5).enqueue()
        later = note.using(run_after=HOUR).enqueue("later")
    here = threading.current_thread().name
    done = drain(app)
    assert [each.id for each in done] == [high.id, first.id, job.id, low.id]
    assert ran == ["first", "low"]
    assert done[0].return_value == here
    assert done[2].return_value == (here, True)
    assert later.refresh().status is JobStatus.READY
    assert drain(app) == []


def test_drain_runs_what_the_jobs_enqueue_and_raises_when_there_is_no_end(app: Flask) -> None:
    with app.app_context():
        for_ever.enqueue()
    with pytest.raises(RuntimeError, match=r"more than 10 attempts.*limit="):
        drain(app, limit=10)


def test_drain_tries_again_at_once(app: Flask) -> None:
    with app.app_context():
        third_time.enqueue()
        come_back.enqueue()
    third, came_back = drain(app)
    assert (third.return_value, len(third.attempts)) == (3, 3)
    assert (came_back.status, len(came_back.attempts)) == (JobStatus.SUCCESSFUL, 2)


def test_drain_gives_failed_jobs_back_too(app: Flask) -> None:
    with app.app_context():
        fail.enqueue()
    (job,) = drain(app)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.message == "no"


def test_drain_keeps_to_a_queue_and_to_pauses(app: Flask) -> None:
    with app.app_context():
        mail, other = where.enqueue(), note.enqueue("other")
        offload.engine.pause("default")
    assert drain(app, queue="default") == []
    assert drain(app, queue="mail") == [mail]
    offload.state_of(app).engine.resume("default")
    assert drain(app) == [other]


def test_drain_runs_async_tasks_even_beside_an_event_loop(app: Flask) -> None:
    with app.app_context():
        nap.enqueue("one")

    async def test() -> list[Any]:
        return [job.return_value for job in drain(app)]

    assert asyncio.run(test()) == ["one"]


def test_jobs_see_nothing_of_the_test_and_leave_nothing_behind(app: Flask) -> None:
    @offload.task(name="shop.peek")
    def peek() -> list[object]:
        found = [has_request_context(), mark.get()]
        mark.set("left behind")
        return found

    try:
        with app.test_request_context("/"):
            mark.set("set in the test")
            peek.enqueue()
            (job,) = drain(app)
    finally:
        del offload.tasks["shop.peek"]
    assert (job.return_value, mark.get()) == ([False, "nothing"], "set in the test")


def test_a_job_whose_task_is_gone_raises_and_stays(app: Flask) -> None:
    gone = Offload().task(name="shop.gone")(lambda: None)
    with app.app_context():
        job = offload.enqueue_many([gone_call(gone)])[0]
    with pytest.raises(UnknownTask, match=r"shop\.gone"):
        drain(app)
    assert job.refresh().status is JobStatus.READY
    assert job.attempts == []


def gone_call(gone: Any) -> Any:
    """A call that was enqueued by a version of the app that still had the task."""
    call = note.call("x")
    call.new_job.task = gone.name
    return call


def test_ctrl_c_ends_the_test_and_leaves_the_job_where_it_was(app: Flask) -> None:
    with app.app_context():
        job = interrupted.enqueue()
    with pytest.raises(KeyboardInterrupt):
        drain(app)
    assert job.refresh().status is JobStatus.READY


def test_a_draining_test_is_a_living_worker_to_others(app: Flask) -> None:
    engine = offload.state_of(app).engine
    assert isinstance(engine, SqliteEngine)
    found: list[object] = []

    @offload.task(name="shop.look_around")
    def look_around() -> None:
        found.append(recover(engine, Retention(60, 60, 100), "another"))

    try:
        with app.app_context():
            job = look_around.enqueue()
        assert [each.status for each in drain(app)] == [JobStatus.SUCCESSFUL]
    finally:
        del offload.tasks["shop.look_around"]
    assert found == [[]]
    assert len(job.refresh().attempts) == 1
    left = {path.suffix for path in (engine.database.path.parent).rglob("*-run/*")}
    assert left <= {".notify"}, "the lock and the slots are gone"


def test_files_of_a_job_are_removed_when_it_is_done(app: Flask) -> None:
    with app.app_context():
        read.enqueue(FileStorage(io.BytesIO(b"bytes"), "a.txt"))
    spool = offload.state_of(app).spool
    assert spool is not None
    assert spool.total_bytes() == 5
    (job,) = drain(app)
    assert (job.return_value, spool.total_bytes()) == (b"bytes", 0)


def test_what_can_not_be_run_here_is_refused(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Engine):
        name = "elsewhere"
        flags = Flags()

        def enqueue(self, jobs: Any) -> list[JobRecord]:
            raise NotImplementedError

        def get(self, job_id: str) -> JobRecord:
            raise NotImplementedError

    monkeypatch.setattr(offload.state_of(app), "engine", Elsewhere())
    with pytest.raises(UnsupportedByEngine, match=r"elsewhere.*OFFLOAD_ENGINE"):
        drain(app)
    with pytest.raises(NotInitialized):
        drain(Flask("none"))


# --- time --------------------------------------------------------------------------------------


def test_until_runs_everything_at_its_time(app: Flask) -> None:
    noon = datetime(2027, 1, 1, 12, tzinfo=UTC)
    with travel(app, noon), app.app_context():
        late = note.using(run_after=3 * HOUR).enqueue("late")
        note.using(run_after=2 * HOUR).enqueue("soon")
        third = third_time.using(run_after=HOUR).enqueue()
        note.using(run_after=noon + 4 * HOUR).enqueue("never")
        drain(app, until=3 * HOUR)
    assert ran == ["attempt 1", "attempt 2", "attempt 3", "soon", "late"]
    assert late.refresh().started_at == late.finished_at == noon + 3 * HOUR
    ten = timedelta(minutes=10)
    assert [attempt.started_at for attempt in third.refresh().attempts] == [
        noon + HOUR,
        noon + HOUR + ten,
        noon + HOUR + 2 * ten,
    ]


def test_the_journey_of_a_drain_ends_with_it(app: Flask) -> None:
    before = datetime.now(UTC)
    with app.app_context():
        note.using(run_after=HOUR).enqueue("later")
    (job,) = drain(app, until=2 * HOUR)
    assert job.started_at is not None
    assert job.started_at >= before + HOUR
    assert offload.state_of(app).clock() < (before + HOUR).timestamp()


def test_the_clock_stands_still_and_can_be_moved(app: Flask) -> None:
    monday = datetime(2027, 3, 1, tzinfo=UTC)
    with travel(app, monday) as clock, app.app_context():
        assert note.enqueue("a").enqueued_at == clock.now == monday
        clock.move(timedelta(days=1))
        assert note.enqueue("b").enqueued_at == monday + timedelta(days=1)
        clock.move(timedelta(days=-2))
        assert clock.now == monday - timedelta(days=1)
        with travel(app, HOUR) as inner:
            assert inner.now == monday - timedelta(days=1) + HOUR
            drain(app, until=HOUR)
            assert inner.now == monday - timedelta(days=1) + 2 * HOUR
        assert note.enqueue("c").enqueued_at == clock.now
        with pytest.raises(OptionError, match="time zone"):
            clock.move(datetime(2027, 1, 1))


def test_the_clock_is_put_right_after_an_error(app: Flask) -> None:
    with pytest.raises(ZeroDivisionError), travel(app, HOUR):
        raise ZeroDivisionError
    with app.app_context():
        assert note.enqueue("now").enqueued_at < datetime.now(UTC) + HOUR / 2
    with pytest.raises(OptionError, match="time zone"), travel(app, datetime(2027, 1, 1)):
        pass


def test_rates_are_kept_in_travelled_time(app: Flask) -> None:
    with app.app_context():
        for number in range(5):
            seldom.enqueue(number)
    drain(app)
    assert ran == ["0", "1"]
    drain(app, until=timedelta(minutes=59))
    assert ran == ["0", "1"]
    drain(app, until=3 * HOUR)
    assert ran == ["0", "1", "2", "3", "4"]


@pytest.fixture
def hourly(tmp_path: Path) -> Iterator[Flask]:
    """An app with a schedule."""
    scheduled = Offload()

    @scheduled.every("@hourly", name="report")
    def report() -> None:
        ran.append("report")

    app = make_app(tmp_path)
    scheduled.init_app(app)
    ran.clear()
    yield app
    scheduled.state_of(app).engine.close()


def test_schedules_fire_in_travelled_time(hourly: Flask) -> None:
    noon = datetime(2027, 1, 1, 12, 30, tzinfo=UTC)
    with travel(hourly, noon) as clock:
        assert len(drain(hourly)) == 1, "for all that was missed on the way"
        jobs = drain(hourly, until=3 * HOUR)
        assert [job.enqueued_at.strftime("%H:%M") for job in jobs] == ["13:00", "14:00", "15:00"]
        assert {job.origin for job in jobs} == {"schedule"}
        clock.move(5 * HOUR)  # as if no worker had run: catch_up="one"
        assert len(drain(hourly)) == 1


def test_schedules_do_not_fire_outside_of_travel(hourly: Flask) -> None:
    drain(hourly)
    state = hourly.extensions["offload"].state_of(hourly)
    before, state.clock = state.clock, lambda: datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert drain(hourly) == []
    state.clock = before
    with travel(hourly, HOUR):
        assert len(drain(hourly)) == 1, "counted from the moment before the journey"


# --- what was enqueued -------------------------------------------------------------------------


def test_assert_enqueued_finds_the_call_however_it_is_written(app: Flask) -> None:
    with app.app_context():
        first = note.enqueue("a", times=2)
        note.enqueue("b")
    assert assert_enqueued(note, "a", 2) == first
    assert assert_enqueued(note, times=2, text="a") == first
    assert_enqueued(note, "b")
    assert_enqueued(note, "b", 1)
    assert_enqueued(note, ANY, times=2)
    assert enqueued(note)[0] == first
    assert len(enqueued(note)) == 2
    drain(app)
    assert assert_enqueued(note, "a", 2).status is JobStatus.SUCCESSFUL


def test_assert_enqueued_says_what_was_enqueued_instead(app: Flask) -> None:
    with app.app_context():
        note.enqueue("a")
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(note, "b")
    name = note.name
    assert str(caught.value) == (
        f"{name}(text='b', times=1) was not enqueued: only {name}(text='a', times=1) READY"
    )
    with pytest.raises(AssertionError, match="nor any other call of it"):
        assert_enqueued(fail)
    with pytest.raises(PayloadError, match="note"):
        assert_enqueued(note)  # type: ignore[call-arg]
    with pytest.raises(AssertionError):
        assert_enqueued(note, 1)  # type: ignore[arg-type]


def test_assert_not_enqueued(app: Flask) -> None:
    assert_not_enqueued(note)
    with app.app_context():
        note.enqueue("a")
    assert_not_enqueued(fail)
    with pytest.raises(AssertionError, match=r"1 jobs of .*note were enqueued: .*text='a'"):
        assert_not_enqueued(note)


def test_the_app_is_the_current_one_else_the_newest(app: Flask, tmp_path: Path) -> None:
    newer = make_app(tmp_path, OFFLOAD_SQLITE_PATH=str(tmp_path / "newer.sqlite3"))
    offload.init_app(newer)
    with newer.app_context():
        note.enqueue("newer")
    assert_enqueued(note, "newer")
    with app.app_context():
        assert_not_enqueued(note)
    lonely = Offload().task(name="lonely")(note.function)
    with pytest.raises(NotInitialized, match="lonely"):
        enqueued(lonely)
    offload.state_of(newer).engine.close()


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class User(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)


def test_rows_are_the_same_if_they_stand_for_the_same(tmp_path: Path) -> None:
    shop = Offload()

    @shop.task(name="shop.greet")
    def greet(user: User) -> None: ...

    app = make_app(tmp_path, SQLALCHEMY_DATABASE_URI="sqlite://")
    db.init_app(app)
    shop.init_app(app)
    with app.app_context():
        db.create_all()
        one, two = User(id=1), User(id=2)
        db.session.add_all([one, two])
        db.session.commit()
        greet.enqueue(one)
        assert_enqueued(greet, one)
        with pytest.raises(AssertionError):
            assert_enqueued(greet, two)
        db.session.delete(one)
        db.session.commit()
        with pytest.raises(AssertionError, match="can't be read"):
            assert_enqueued(greet, two)
        db.engine.dispose()
    shop.state_of(app).engine.close()


# --- an app's jobs, and the fixture ------------------------------------------------------------


def test_the_jobs_of_an_app(app: Flask, jobs: AppJobs) -> None:
    assert (list(jobs), len(jobs)) == ([], 0)
    with app.app_context():
        first, second = note.enqueue("a"), fail.enqueue()
    assert list(jobs) == [first, second]
    assert len(jobs) == 2
    assert jobs.drain(queue="default") == [first, second]
    with jobs.travel(HOUR) as clock:
        assert clock.now > datetime.now(UTC) + HOUR / 2
    jobs.clear()
    assert len(jobs) == 0
    with app.app_context():
        note.enqueue("again")
    assert len(jobs.drain()) == 1, "the queue is still known"


def test_clear_refuses_an_app_that_may_be_in_real_use(tmp_path: Path) -> None:
    app = make_app(tmp_path, TESTING=False)
    offload.init_app(app)
    with pytest.raises(RuntimeError, match="not set"):
        AppJobs(app).clear()
    app = make_app(tmp_path, OFFLOAD_ENGINE="inline", OFFLOAD_SQLITE_PATH=None)
    offload.init_app(app)
    with app.app_context():
        note.enqueue("a")
    AppJobs(app).clear()
    assert len(AppJobs(app)) == 0


CONFTEST = """
import pytest
from shop import create_app

@pytest.fixture(scope="session")
def app(tmp_path_factory):
    return create_app(str(tmp_path_factory.mktemp("shop") / "jobs.sqlite3"))
"""
SHOP = """
from flask import Flask
from flask_offload import Offload

offload = Offload()
sent = []

@offload.task(max_attempts=2)
def send(to: str) -> None:
    sent.append(to)

def create_app(path):
    app = Flask(__name__)
    app.config.update(TESTING=True, OFFLOAD_SQLITE_PATH=path)
    offload.init_app(app)

    @app.post("/signup/<name>")
    def signup(name):
        send.enqueue(name)
        return ""

    return app
"""
TESTS = """
import pytest
import shop
from flask_offload.testing import assert_enqueued

@pytest.mark.parametrize("name", ["ann", "bo"])
def test_signup(app, offload_jobs, name):
    app.test_client().post(f"/signup/{name}")
    assert_enqueued(shop.send, name)
    assert len(offload_jobs) == 1
    (job,) = offload_jobs.drain()
    assert job.status == "SUCCESSFUL"
    assert shop.sent.pop() == name
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.processes
def test_the_plugin_gives_each_test_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TESTS)
    done = run_pytest(tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.processes
def test_the_plugin_says_that_it_needs_an_app(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text("def test_it(offload_jobs): pass")
    assert "fixture 'app' not found" in run_pytest(tmp_path).stdout


@pytest.mark.processes
def test_the_plugin_loads_little(tmp_path: Path) -> None:
    code = (
        "import flask_offload, sys; before = set(sys.modules); import flask_offload.pytest_plugin;"
        "import pytest; print([m for m in set(sys.modules) - before if m.startswith('flask')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flask_offload.pytest_plugin']"


# --- the inline engine -------------------------------------------------------------------------


def test_the_helpers_work_on_the_inline_engine(tmp_path: Path) -> None:
    app = make_app(tmp_path, OFFLOAD_ENGINE="inline")
    offload.init_app(app)
    ran.clear()
    with app.app_context():
        note.enqueue("now")
        note.using(run_after=HOUR, queue_name="later").enqueue("later")
        note.using(run_after=2 * HOUR).enqueue("latest")
    assert ran == ["now"]
    assert_enqueued(note, "later")
    assert drain(app) == []
    with travel(app, HOUR):
        assert drain(app, queue="default") == []
        assert len(drain(app, queue="later")) == 1
    (job,) = drain(app, until=2 * HOUR)
    assert ran == ["now", "later", "latest"]
    assert job.started_at is not None
    assert job.started_at >= job.enqueued_at + 2 * HOUR


def test_the_inline_engine_keeps_what_waits_and_forgets_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_offload.inline.KEPT", 3)
    app = make_app(tmp_path, OFFLOAD_ENGINE="inline")
    offload.init_app(app)
    with app.app_context():
        waiting = note.using(run_after=HOUR).enqueue("waiting")
        done = [note.enqueue(f"{number}") for number in range(5)]
    kept = list(AppJobs(app))
    assert waiting in kept
    assert done[-1] in kept
    assert done[0] not in kept
    assert len(kept) == 3


def test_the_inline_engine_runs_a_job_once_however_many_threads_look(tmp_path: Path) -> None:
    app = make_app(tmp_path, OFFLOAD_ENGINE="inline")
    offload.init_app(app)
    ran.clear()
    with app.app_context():
        for number in range(50):
            note.using(run_after=HOUR).enqueue(f"{number}")
    with travel(app, HOUR):
        threads = [threading.Thread(target=drain, args=(app,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(ran, key=int) == [f"{number}" for number in range(50)]
