"""The app's Celery: where it comes from, and settings with which no job is lost.

Settings of the app's own are never changed; `warnings_about` lists those that are unsafe.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Final

from celery import Celery
from flask import Flask
from redis.connection import parse_url

from flask_offload.engine_api import Host
from flask_offload.errors import ConfigError

from .levels import PRIORITY_STEPS

_parse_url: Any = parse_url  # the Redis client is typed in parts
REDIS: Final = ("redis://", "rediss://", "unix://")
KOMBU_SOCKET: Final = "redis+socket://"
"""How broker_url and result_backend begin for a Redis on a Unix socket."""
SILENCE: Final = 20
"""Seconds after which the connection to a host that does not answer is closed. Without it, a worker
whose network was cut waits on the dead connection for up to 15 minutes (Linux's tcp_retries2)."""
VISIBILITY: Final = 3600.0
"""Seconds; Celery's own default for the time after which Redis hands a message out again."""

BOTH: Final[dict[str, Any]] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "broker_connection_retry_on_startup": True,
}
WORKER: Final[dict[str, Any]] = {
    "worker_prefetch_multiplier": 1,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_max_retries": None,
    "broker_heartbeat": SILENCE // 2,
}
"""For a worker: no message is reserved before a process is free, and a lost connection is noticed
soon and opened again without an end of attempts."""
MAILBOX: Final[dict[str, Any]] = {"control_queue_exclusive": False, "control_queue_durable": True}
"""An exclusive queue for `celery inspect` and its like belongs to a connection. When that is reset,
RabbitMQ refuses it to the next one for a moment, and Celery ends the worker for that."""


def celery_of(app: Flask) -> Celery:
    """The app's own Celery, or one made from its CELERY settings, as Flask's documentation has it.

    Raises ConfigError when there is neither.
    """
    known = app.extensions.get("celery")
    if isinstance(known, Celery):
        return known
    celery = Celery(app.import_name, set_as_current=False)
    celery.config_from_object(_settings(app))
    app.extensions["celery"] = celery
    return celery


def _settings(app: Flask) -> dict[str, Any]:
    settings = app.config.get("CELERY")
    if not isinstance(settings, dict) or not settings.get("broker_url"):
        raise ConfigError(
            "OFFLOAD_ENGINE = 'celery' needs the app's Celery: before offload.init_app(app), set"
            " app.config['CELERY'] to a dict such as {'broker_url': 'redis://localhost'}, or put"
            " your own Celery into app.extensions['celery']"
        )
    return settings


def check_setup(app: Flask, chosen: str | None) -> None:
    """Raise ConfigError for what can't work, already when the app is created. The Celery object is
    created later, as the app may still set its own."""
    known = app.extensions.get("celery")
    if isinstance(known, Celery):
        records_url(known.conf.broker_url, known.conf.result_backend, chosen)
    else:
        settings = _settings(app)
        records_url(settings["broker_url"], settings.get("result_backend"), chosen)


def records_url(broker: object, backend: object, chosen: str | None) -> str:
    """The Redis that keeps the jobs' records: as chosen, else the result backend, else the broker.

    Raises ConfigError when none of them is a Redis. URLs are not shown: they hold passwords.
    """
    for url in (chosen, backend, broker):
        if isinstance(url, str) and url.startswith(KOMBU_SOCKET):
            url = url.replace(KOMBU_SOCKET, "unix://", 1).replace("virtual_host=", "db=")
        if isinstance(url, str) and url.startswith(REDIS):
            try:
                _parse_url(url)
            except ValueError:
                raise ConfigError(
                    "the URL of the Redis for the jobs' records can't be read: write it as"
                    " redis://:password@host:port/number"
                ) from None
            return url
        if chosen is not None:
            raise ConfigError(
                f"OFFLOAD_CELERY_RECORDS = '{chosen.partition(':')[0]}:…' can't be used: it takes"
                " the URL of a Redis, redis://…, rediss://… or unix://…"
            )
    raise ConfigError(
        "the Celery engine keeps the jobs' records in Redis, since no message broker can report the"
        " status of a job, and neither result_backend nor broker_url is one: start a Redis, and set"
        " OFFLOAD_CELERY_RECORDS = 'redis://…'. Messages stay on your broker"
    )


def configure(celery: Celery) -> None:
    """Set what senders and workers need."""
    _set_missing(celery, BOTH)
    options = dict(celery.conf.broker_transport_options)
    if _is_redis(celery):
        options.setdefault("priority_steps", PRIORITY_STEPS)
    celery.conf.broker_transport_options = options


def configure_worker(celery: Celery, host: Host) -> None:
    """Set what a worker needs."""
    configure(celery)
    _set_missing(celery, WORKER)
    if not celery.conf.value_set_for("control_queue_exclusive"):
        _set_missing(celery, MAILBOX)
    options = dict(celery.conf.broker_transport_options)
    if _is_redis(celery):
        options.setdefault("visibility_timeout", max(VISIBILITY, 2 * longest_timeout(host)))
        options.setdefault("socket_keepalive", True)
        options.setdefault("socket_keepalive_options", keepalive())
    celery.conf.broker_transport_options = options


def warnings_about(celery: Celery, host: Host) -> Iterator[str]:
    """A sentence for each setting of the app's own that makes its jobs less safe."""
    conf = celery.conf
    if set(conf.accept_content) - {"json", "application/json"}:
        yield (
            f"accept_content = {conf.accept_content!r}: pickle and yaml let everyone who can reach"
            " the broker run code in the worker; accept ['json'] only"
        )
    if conf.worker_prefetch_multiplier != 1:
        yield (
            f"worker_prefetch_multiplier = {conf.worker_prefetch_multiplier}: jobs wait behind a"
            " long one although another worker is free; set 1"
        )
    longest = longest_timeout(host)
    visible = conf.broker_transport_options.get("visibility_timeout", VISIBILITY)
    if _is_redis(celery) and visible <= longest:
        yield (
            f"visibility_timeout = {visible:g} s is not above the longest timeout of a task"
            f" ({longest:g} s): Redis hands its message out again while it runs. Offload refuses"
            " the second one; plain Celery tasks run twice"
        )


def longest_timeout(host: Host) -> float:
    """Seconds of the longest timeout, with the grace period before a process is killed."""
    timeouts = [task.options.timeout or 0.0 for task in host.registry.tasks.values()]
    return max(timeouts, default=0.0) + host.config.timeout_grace


def keepalive() -> dict[int, int]:
    """TCP options that close a connection after SILENCE seconds without an answer."""
    wanted = {
        "TCP_KEEPIDLE": SILENCE // 4,
        "TCP_KEEPINTVL": SILENCE // 4,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": SILENCE * 1000,
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _is_redis(celery: Celery) -> bool:
    return str(celery.conf.broker_url or "").startswith(("redis", "unix"))


def _set_missing(celery: Celery, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if not celery.conf.value_set_for(name):
            setattr(celery.conf, name, value)
