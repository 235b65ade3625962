"""The settings of the Celery engine: mistakes are reported when the app is created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask

import celery_app
from brokers import Redis, serving
from celery_server import make_site
from flask_offload import ConfigError, JobStatus, Offload, UnsupportedByEngine
from flask_offload_celery.engine import CeleryEngine
from flask_offload_celery.setup import configure_worker

RABBIT, REDIS = "amqp://guest:guest@localhost//", "redis://localhost:1/0"


def make(folder: Path, celery: Celery | None = None, **config: Any) -> CeleryEngine:
    """The engine of an app with these settings. Nothing is connected to."""
    app = Flask("setup", instance_path=str(folder))
    app.config.update(OFFLOAD_ENGINE="celery", **config)
    if celery is not None:
        app.extensions["celery"] = celery
    engine = Offload(app).state_of(app).engine
    assert isinstance(engine, CeleryEngine)
    return engine


def test_alerts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedByEngine, match=r"OFFLOAD_ALERT needs .* the flag 'alerts'"):
        make(tmp_path, CELERY={"broker_url": REDIS}, OFFLOAD_ALERT=print)


@pytest.mark.parametrize("settings", [{}, {"CELERY": {}}, {"CELERY": "redis://localhost"}])
def test_without_celery_the_error_says_where_to_put_it(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    text = r"before offload.init_app\(app\), set app.config\['CELERY'\].*app.extensions\['celery'\]"
    with pytest.raises(ConfigError, match=text):
        make(tmp_path, **settings)


def test_with_rabbitmq_alone_the_error_says_what_is_missing_and_why(tmp_path: Path) -> None:
    text = "no message broker can report the status of a job.*OFFLOAD_CELERY_RECORDS = 'redis://"
    with pytest.raises(ConfigError, match=text):
        make(tmp_path, CELERY={"broker_url": RABBIT})
    with pytest.raises(ConfigError, match=text):
        make(tmp_path, Celery("own", broker=RABBIT, backend="rpc://", set_as_current=False))


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"CELERY": {"broker_url": REDIS}}, "localhost:1/0"),
        ({"CELERY": {"broker_url": RABBIT, "result_backend": REDIS}}, "localhost:1/0"),
        (
            {"CELERY": {"broker_url": RABBIT}, "OFFLOAD_CELERY_RECORDS": "redis://r:2/3"},
            "r:2/3",
        ),
        (
            {"CELERY": {"broker_url": REDIS}, "OFFLOAD_CELERY_RECORDS": "unix:///tmp/r.sock"},
            "/tmp/r.sock",
        ),
    ],
    ids=["broker", "result backend", "chosen", "chosen before broker"],
)
def test_the_records_are_in_the_first_redis_that_is_named(
    tmp_path: Path, settings: dict[str, Any], place: str
) -> None:
    assert make(tmp_path, **settings).connections.store.place == place


def test_an_existing_celery_is_taken_as_it_is(tmp_path: Path) -> None:
    own = Celery("own", broker=RABBIT, backend=REDIS, set_as_current=False)
    own.conf.worker_prefetch_multiplier = 3
    engine = make(tmp_path, own)
    assert engine.connections.celery is own
    assert own.conf.worker_prefetch_multiplier == 3
    assert own.conf.accept_content == ["json"]  # what it had not set itself


@pytest.mark.parametrize("url", ["postgres://u:secret@h/db", "secret", "redis://:secret@h:port"])
def test_a_place_that_is_no_redis_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis://") as raised:
        make(tmp_path, CELERY={"broker_url": RABBIT}, OFFLOAD_CELERY_RECORDS=url)
    assert "secret@" not in str(raised.value)
    assert "secret" not in str(raised.value) or url == "secret"


@pytest.mark.parametrize(
    ("given", "durable"), [({}, True), ({"control_queue_exclusive": True}, False)]
)
def test_the_mailbox_of_a_worker_belongs_to_no_connection_unless_the_app_says_so(
    tmp_path: Path, given: dict[str, bool], durable: bool
) -> None:
    connections = make(
        tmp_path, CELERY={"broker_url": RABBIT, "result_backend": REDIS, **given}
    ).connections
    configure_worker(connections.celery, connections.host)
    mailbox = connections.celery.control.mailbox
    assert (mailbox.queue_exclusive, mailbox.queue_durable) == (not durable, durable)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://localhost:1/0", "redis://localhost:1/0"),
        ("redis://:secret@localhost:1/0", "redis://:**@localhost:1/0"),
        ("amqp://me:secret@localhost:1//", "amqp://me:**@localhost:1//"),
    ],
)
def test_a_broker_is_shown_without_its_password(tmp_path: Path, url: str, place: str) -> None:
    engine = make(tmp_path, CELERY={"broker_url": url, "result_backend": REDIS})
    assert engine.connections.broker.place == place


class SocketRedis(Redis):
    """A Redis that listens on a Unix socket too."""

    def program(self, words: list[str]) -> list[str]:
        return [*words, "--unixsocket", str(self.folder / "s")]


@pytest.mark.processes
@pytest.mark.parametrize("records", ["unix", "redis+socket", None])
def test_a_redis_on_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: str | None
) -> None:
    with serving(SocketRedis, tmp_path / "r") as redis:
        place = f"{records}://{redis.folder}/s" if records else None
        broker = {"broker_url": f"redis+socket://{redis.folder}/s?virtual_host=3"}
        with make_site(
            tmp_path, monkeypatch, redis, CELERY=broker, OFFLOAD_CELERY_RECORDS=place
        ) as site:
            job = celery_app.add.enqueue(1, 2)
            assert job.refresh().status is JobStatus.READY
            assert site.engine.connections.broker.depth("default") == 1
