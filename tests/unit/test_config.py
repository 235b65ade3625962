"""The settings: read once, checked once, and told in the documentation."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import tempfile
import types
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import make_url

from flask_offload import (
    ConfigError,
    JobNotFound,
    NotInitialized,
    Offload,
    OptionError,
    PayloadError,
)
from flask_offload.admin.postgres import PostgresEngine
from flask_offload.config import PREFIX, Config
from flask_offload.tasks.options import TaskOptions

ROOT = Path(__file__).parents[2]


def read(**config: Any) -> Config:
    app = Flask("some_app", instance_path=str(ROOT))
    app.config.update(config)
    return Config.from_app(app)


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean OFFLOAD_WORKER_THREADS"):
        read(OFFLOAD_WORKERS_THREADS=3)
    with pytest.raises(ConfigError, match=r"did you mean OFFLOAD_\w+\?"):
        read(OFFLOAD_XYZZY=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OFFLOAD_WORKER", "sometimes"),
        ("OFFLOAD_WORKER_THREADS", 0),
        ("OFFLOAD_WORKER_THREADS", "4"),
        ("OFFLOAD_WORKER_THREADS", True),
        ("OFFLOAD_DURABILITY", None),
        ("OFFLOAD_DRAIN_TIMEOUT", -1),
        ("OFFLOAD_URL_PREFIX", "offload"),
        ("OFFLOAD_SPOT", 1.5),
        ("OFFLOAD_SPOT_ABOVE", 1),
        ("OFFLOAD_SQLITE_PATH", 7),
        ("OFFLOAD_SQLITE_PATH", ":memory:"),
        ("OFFLOAD_SQLITE_PATH", "~no-user-of-this-name/jobs.db"),
        ("OFFLOAD_SQLITE_FORCE", 1),
    ],
)
def test_an_unusable_value_is_refused_and_says_what_would_do(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{key} = .*can't be used: it takes "):
        read(**{key: value})


def test_an_engine_that_does_not_exist_is_named() -> None:
    app = Flask("some_app")
    app.config["OFFLOAD_ENGINE"] = "sqlight"
    with pytest.raises(ConfigError, match=r"'sqlight' is not installed; there are: .*sqlite"):
        Offload(app)


def test_the_environment_counts_where_the_app_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_OFFLOAD_WORKER_THREADS", "7")
    monkeypatch.setenv("FLASK_OFFLOAD_WORKER", "off")
    assert (read().worker_threads, read().worker) == (7, "off")
    assert read(OFFLOAD_WORKER_THREADS=2).worker_threads == 2


@pytest.mark.parametrize("word", ["false", "False"])
def test_the_environment_knows_the_words_of_json_and_of_python(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("FLASK_OFFLOAD_SPOT", word)
    assert read().spot is False
    app = Flask("some_app")
    app.config.from_prefixed_env()
    assert Config.from_app(app).spot is False


def test_a_setting_that_comes_too_late_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("some_app", instance_path=str(tmp_path))
    app.config.update(OFFLOAD_WORKER="off", OFFLOAD_SPOT="False")
    Offload(app)
    app.config.update(OFFLOAD_ENGINE="inline", OFFLOAD_WORKER="off")
    for _ in range(2):
        app.test_client().get("/")
    assert caplog.messages == [
        "OFFLOAD_ENGINE was set after init_app, and has no effect: set it before"
    ]


def test_an_unknown_key_in_the_environment_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_OFFLOAD_WORKR", "off")
    with pytest.raises(ConfigError, match=r"OFFLOAD_WORKR .* did you mean OFFLOAD_WORKER\?"):
        read()


def test_the_database_lies_in_the_instance_folder(tmp_path: Path) -> None:
    app = Flask("some_app", instance_path=str(tmp_path))
    assert Config().database(app) == tmp_path / "offload.sqlite3"
    assert Config(sqlite_path="var/jobs.db").database(app) == tmp_path / "var" / "jobs.db"
    assert Config(sqlite_path="/var/jobs.db").database(app) == Path("/var/jobs.db")


def test_the_documentation_lists_every_key() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    told = re.findall(r"^\| `(OFFLOAD_\w+)` \|", text, re.MULTILINE)
    assert told == [PREFIX + field.name.upper() for field in fields(Config)]
    for field in fields(Config):
        assert field.metadata["meaning"] in text


def test_the_documentation_lists_every_option_of_a_task() -> None:
    text = (ROOT / "docs" / "control.md").read_text()
    table = text[: text.index("## Retries")]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    options = {*TaskOptions.__dataclass_fields__, "name"} - {"retry", "from_app"}
    options |= {"max_attempts", "backoff", "retry_on", "discard_on"}
    assert set(told) == options
    assert inspect.getdoc(Offload.task)


def test_two_offloads_on_one_app_are_refused_with_the_remedy(tmp_path: Path) -> None:
    app = Flask("some_app", instance_path=str(tmp_path))
    first = Offload(app)
    with pytest.raises(RuntimeError, match="import that one"):
        Offload(app)
    with pytest.raises(RuntimeError, match="remove one of the calls"):
        first.init_app(app)
    assert not any(value is app for value in vars(first).values())


def test_an_app_without_offload_says_what_is_missing() -> None:
    offload = Offload()

    @offload.task
    def work() -> None: ...

    with Flask("bare").app_context(), pytest.raises(NotInitialized, match="init_app"):
        work.enqueue()


def plain_function(x: int) -> int:
    return x


class Service:
    @staticmethod
    def method() -> None: ...


def test_a_task_that_no_worker_would_know_is_refused_where_it_is_declared(tmp_path: Path) -> None:
    offload = Offload()

    def local() -> None: ...

    module = types.ModuleType("lazily_imported")
    exec("def later(): pass", vars(module))
    sys.modules["lazily_imported"] = module
    later = vars(module).pop("later")  # as while its decorator runs
    app = Flask("some_app", instance_path=str(tmp_path))
    app.config["OFFLOAD_WORKER"] = "off"
    offload.init_app(app)
    with app.test_request_context(environ_base={"SERVER_SOFTWARE": "a server"}):
        for function in (local, shutil.copy, len, Service.method):
            with pytest.raises(OptionError, match="no worker would know it: declare it where"):
                offload.task(function)
        with pytest.raises(OptionError, match="no worker would know it"):
            offload.task(timeout=3)(plain_function)
        assert offload.task(plain_function).name == "test_config.plain_function"
        assert offload.task(timeout=3)(later).options.timeout == 3
    with app.test_request_context():  # of a test, whose process runs the jobs itself
        assert offload.task(local)
    del sys.modules["lazily_imported"]


def test_what_is_no_call_and_no_id_is_refused(tmp_path: Path) -> None:
    app = Flask("some_app", instance_path=str(tmp_path))
    offload = Offload(app)
    with app.app_context():
        for wrong in ("x", offload.get_job):
            with pytest.raises(PayloadError, match=r"enqueue_many takes calls, not .*task\.call"):
                offload.enqueue_many([wrong])  # type: ignore[list-item]
        with pytest.raises(JobNotFound, match="no job None"):
            offload.get_job(None)  # type: ignore[arg-type]


def test_several_apps_share_one_offload(tmp_path: Path) -> None:
    offload = Offload()

    @offload.task
    def work() -> int:
        return 1

    apps = []
    for name in ("one", "two"):
        app = Flask(name, instance_path=str(tmp_path / name))
        offload.init_app(app)
        apps.append(app)
    with apps[0].app_context():
        job = work.enqueue()
        assert offload.get_job(job.id) == job
    with apps[1].app_context(), pytest.raises(LookupError):
        raise LookupError if not list(offload.engine.queues()) else AssertionError
    for app in apps:
        offload.state_of(app).engine.close()


def test_options_are_checked_when_the_task_is_declared() -> None:
    offload = Offload()
    for options in (
        {"queue_name": "no spaces"},
        {"priority": 101},
        {"max_attempts": 0},
        {"timeout": -1},
        {"on_crash": "ignore"},
        {"concurrency_key": str},
        {"unique_for": 5},
        {"rate": "often"},
        {"keep": {"READY": 3}},
        {"no_such_option": 1},
        {"timeout": "long"},
        {"name": ""},
        {"isolate": "yes"},
        {"unique": "id"},
        {"unique": True, "unique_states": 5},
        {"concurrency": 2, "concurrency_key": "id"},
        {"rate": 5},
        {"rate": "5/m", "rate_key": "id"},
        {"retry_on": None},
        {"retry_on": "ValueError"},
        {"discard_on": ValueError("an instance")},
    ):
        with pytest.raises(OptionError):
            offload.task(**options)(lambda: None)
    assert offload.tasks == {}
    assert offload.task(timeout=timedelta(minutes=1), name="x")(print).options.timeout == 60


def test_tasks_keep_names_and_refuse_to_share_them() -> None:
    offload = Offload()

    def send() -> None: ...

    task = offload.task(send)
    assert offload.task(send) is task
    assert task.name == f"{__name__}.{send.__qualname__}"
    with pytest.raises(OptionError, match="name of its own"):
        offload.task(name=task.name)(print)
    with pytest.raises(OptionError, match="a lambda has no name"):
        offload.task(lambda: None)
    with pytest.raises(OptionError, match="a task already"):
        offload.task(task)


def test_the_postgres_engine_uses_the_database_of_sqlalchemy(tmp_path: Path) -> None:
    def config(**settings: object) -> Config:
        app = Flask("some_app", instance_path=str(tmp_path))
        app.config.update(OFFLOAD_ENGINE="postgres", **settings)
        return Config.from_app(app)

    url = "postgresql+psycopg2://me:secret@host/db"
    assert config(SQLALCHEMY_DATABASE_URI=url).postgres_url == url
    assert config(SQLALCHEMY_DATABASE_URI=make_url(url)).postgres_url == url
    own = "postgresql://other/db"
    assert config(SQLALCHEMY_DATABASE_URI=url, OFFLOAD_POSTGRES_URL=own).postgres_url == own
    assert config(SQLALCHEMY_DATABASE_URI="sqlite:///x.db").postgres_url is None
    app = Flask("some_app", instance_path=str(tmp_path))
    app.config.update(OFFLOAD_ENGINE="postgres")
    with pytest.raises(ConfigError, match="OFFLOAD_POSTGRES_URL"):
        Offload(app)


def test_the_postgres_engine_uses_no_run_folder_that_others_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = PostgresEngine("postgresql://me@host/db")
    folder = engine.run_folder()
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert PostgresEngine("postgresql://me@host/db", "other").run_folder() != folder
    folder.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="TMPDIR"):
        engine.run_folder()
