"""What an engine's flags deny is refused at once, with the flag's name and the remedy: every flag,
every option, one at a time, on a real engine that lacks just this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from flask_offload import JobStatus, Offload, UnsupportedByEngine
from flask_offload.admin import engines
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.base import Engine, Flags
from flask_offload.feature_checks import EVERY_ENGINE, FLAG_OF_OPTION
from flask_offload.inline import InlineEngine
from flask_offload.tasks.options import TaskOptions

ALL = Flags(**dict.fromkeys(Flags.names(), True))

OPTIONS: dict[str, dict[str, Any]] = {
    "priority": {"priority": 1},
    "isolate": {"isolate": True},
    "unique": {"unique": True},
    "unique_for": {"unique": lambda: "key", "unique_for": 5},
    "unique_states": {"unique": lambda: "key", "unique_states": [JobStatus.READY]},
    "concurrency": {"concurrency": 1},
    "concurrency_key": {"concurrency": 1, "concurrency_key": lambda: "key"},
    "rate": {"rate": "5/m"},
    "rate_key": {"rate": "5/m", "rate_key": lambda: "key"},
    "keep": {"keep": 60},
    "result_ttl": {"result_ttl": 60},
    "on_failure": {"on_failure": print},
}
"""Each option that needs a flag, as a user writes it."""

USES: dict[str, dict[str, Any]] = {
    "priorities": {"priority": -1},
    "deferred": {"run_after": datetime(2020, 1, 1, tzinfo=UTC)},
    "retention": {"keep": 60},
}
"""What `using` takes that needs a flag."""


def work() -> None: ...


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flask]:
    """An app whose engine has all flags but these, and ignores nothing."""

    def make(*denied: str, offload: Offload | None = None, **config: Any) -> Flask:
        class Less(InlineEngine):
            name = "less"
            flags = replace(ALL, own_worker=False, files=False, **dict.fromkeys(denied, False))
            ignores = frozenset()

        monkeypatch.setitem(engines.BUILT_IN, "less", Less)
        app = Flask("less")
        app.config.update(OFFLOAD_ENGINE="less", **config)
        (offload or Offload()).init_app(app)
        return app

    return make


def offload_of(app: Flask) -> Offload:
    offload: Offload = app.extensions["offload"]
    return offload


def refused(flag: str, what: str) -> Any:
    """The refusal: what, the flag, the engine, the remedy."""
    engine = "which the less engine does not have: leave it out, or choose"
    text = rf"^{what}.* the flag '{flag}', {engine}"
    return pytest.raises(UnsupportedByEngine, match=text)


def test_every_option_of_a_task_is_known_to_need_a_flag_or_none() -> None:
    names = {field.name for field in fields(TaskOptions)}
    assert names == FLAG_OF_OPTION.keys() | EVERY_ENGINE
    assert not FLAG_OF_OPTION.keys() & EVERY_ENGINE
    assert set(FLAG_OF_OPTION.values()) <= set(Flags.names())
    assert OPTIONS.keys() == FLAG_OF_OPTION.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_refused_when_the_task_is_declared(
    without: Callable[..., Flask], option: str
) -> None:
    flag = FLAG_OF_OPTION[option]
    app = without(flag)  # kept, as an Offload forgets apps that are gone
    offload = offload_of(app)
    with refused(flag, r"\w+= of the task test_engine_flags.work"):
        offload.task(**OPTIONS[option])(work)
    assert offload.tasks == {}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_refused_when_the_app_starts(
    without: Callable[..., Flask], option: str
) -> None:
    flag = FLAG_OF_OPTION[option]
    offload = Offload()
    offload.task(**OPTIONS[option])(work)
    with refused(flag, r"\w+= of the task test_engine_flags.work"):
        without(flag, offload=offload)
    assert not offload.states
    app = without(offload=offload)  # and with the flag it is not
    assert offload_of(app) is offload


@pytest.mark.parametrize("flag", USES)
def test_what_using_changes_is_refused_when_the_job_is_enqueued(
    without: Callable[..., Flask], flag: str
) -> None:
    app = without(flag)
    task = offload_of(app).task(work).using(**USES[flag])
    (option,) = USES[flag]
    what = rf"using\({option}=\) of the task test_engine_flags.work"
    with app.app_context():
        for call in (task.enqueue, task.call):
            with refused(flag, what):
                call()
        assert sum(offload_of(app).engine.count().values()) == 0
    with (good := without()).app_context():
        assert offload_of(good).task(work).using(**USES[flag]).enqueue().id


def test_a_schedule_is_refused_when_it_is_declared_or_when_the_app_starts(
    without: Callable[..., Flask],
) -> None:
    offload = offload_of(without("schedules"))
    what = "@offload.every, the schedule nightly,"
    with refused("schedules", what):
        offload.every("@daily", name="nightly")(work)
    assert offload.schedules == {}
    early = Offload()
    early.every("@daily", name="nightly")(work)
    with refused("schedules", what):
        without("schedules", offload=early)
    without(offload=early)


def test_a_batch_is_refused_and_a_single_job_is_not(without: Callable[..., Flask]) -> None:
    app = without("transactional_batches")
    offload = offload_of(app)
    task = offload.task(work)
    with app.app_context():
        with refused("transactional_batches", r"enqueue_many\(\)"):
            offload.enqueue_many([task.call(), task.call()])
        assert sum(offload.engine.count().values()) == 0
        assert len(offload.enqueue_many([task.call()])) == 1
        assert offload.enqueue_many([]) == []


def test_settings_that_would_have_no_effect_are_refused(without: Callable[..., Flask]) -> None:
    with refused("outbox", "OFFLOAD_OUTBOX = True"):
        without("outbox", OFFLOAD_OUTBOX=True)
    without(OFFLOAD_OUTBOX=True)
    with refused("own_worker", "OFFLOAD_WORKER = 'thread'"):
        without(OFFLOAD_WORKER="thread")
    for worker in ("auto", "off"):
        without(OFFLOAD_WORKER=worker)


def test_calls_that_a_flag_denies_name_it() -> None:
    """What an engine inherits from the engine API; the commands ask the flags before they call."""

    class Least(SqliteEngine):
        flags = Flags()

    for name, flag, arguments in [
        ("list", "lists", (None,)),
        ("arguments", "lists", ("id",)),
        ("count", "lists", ()),
        ("queues", "lists", ()),
        ("cancel", "cancels_waiting", ("id",)),
        ("retry", "retries", ("id",)),
        ("pause", "pauses", ("mail",)),
        ("resume", "pauses", ("mail",)),
        ("schedules", "schedules", ()),
        ("work", "worker_command", (None,)),
    ]:
        with pytest.raises(UnsupportedByEngine, match=f"'{flag}' is off.*OFFLOAD_ENGINE"):
            getattr(Engine, name)(Least.__new__(Least), *arguments)


def test_the_inline_engine_ignores_only_what_it_declares() -> None:
    denied = {name for name in Flags.names() if not getattr(InlineEngine.flags, name)}
    assert InlineEngine.ignores < denied
    app = Flask("inline")
    app.config.update(OFFLOAD_ENGINE="inline", OFFLOAD_WORKER="thread", TESTING=True)
    offload = Offload(app)
    offload.task(name="a", isolate=True, concurrency=1, rate="1/h", result_ttl=5, keep=5)(work)
    offload.every(timedelta(hours=1), name="b")(work)
    with app.app_context():
        jobs = offload.enqueue_many([offload.tasks["a"].call() for _ in range(3)])
    assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}
