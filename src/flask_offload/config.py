"""Every OFFLOAD_* key: default, unit, meaning. Read and checked once, by `init_app`."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from flask import Flask

from .errors import ConfigError

PREFIX = "OFFLOAD_"
DAY = 86_400.0
MASKED = (
    *("password", "passwd", "passphrase", "pwd", "secret", "token", "key", "credential", "auth"),
    *("authorization", "cookie", "session", "signature", "pin", "otp", "cvv", "cvc", "iban", "ssn"),
)
LEAST_MEMORY = 32 << 20
"""Bytes; less than a process takes that has only imported Flask."""
PYTHON_WORDS = {"True": True, "False": False}
"""Common in environment variables, where JSON has `true` and `false`."""


def _key(default: Any, meaning: str, check: Callable[[Any], bool], expected: str) -> Any:
    metadata = {"meaning": meaning, "check": check, "expected": expected}
    return field(default=default, metadata=metadata)


def _one_of(*choices: Any) -> tuple[Callable[[Any], bool], str]:
    # `in` alone would take 1 for True
    return (
        lambda value: any(value is c or (value == c and type(value) is type(c)) for c in choices),
        "one of " + ", ".join(repr(choice) for choice in choices),
    )


def _number(low: float, high: float, *, whole: bool = False) -> tuple[Callable[[Any], bool], str]:
    kind = int if whole else (int, float)
    return (
        lambda value: (
            isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
        ),
        f"a {'whole ' if whole else ''}number from {low:,.15g} to {high:,.15g}",
    )


def _is_text_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _text() -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and bool(value), "a text"


def _is_words(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) for pair in value.items() for text in pair
    )


def _is_path(value: Any) -> bool:
    if not isinstance(value, str | os.PathLike):
        return False
    path = os.fspath(value)
    if not isinstance(path, str) or "\0" in path or path == ":memory:":
        return False
    try:
        Path(path).expanduser()
    except RuntimeError:  # the home of an unknown user
        return False
    return bool(Path(path).name)


def _is_prefix(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/") and value != "/" and value[-1] != "/"


@dataclass(frozen=True)
class Config:
    """The settings of one app. The field `sqlite_path` is the key `OFFLOAD_SQLITE_PATH`, and so on.

    They are read once, by `init_app`, from `app.config` and, for keys that it lacks, from the
    environment as `FLASK_OFFLOAD_…` (names and JSON values as in Flask's `from_prefixed_env`).
    """

    engine: str = _key("sqlite", "the engine that keeps the jobs", *_text())
    sqlite_path: str | os.PathLike[str] | None = _key(
        None,
        "the database file; a relative path starts at the instance folder",
        lambda value: value is None or _is_path(value),
        "the path of a file, which outlives the process and which workers open too",
    )
    sqlite_force: bool = _key(
        False, "use a network file system regardless of the danger", *_one_of(True, False)
    )
    durability: str = _key(
        "power",
        '"power": accepted jobs survive power cuts; "process": only crashes, but no fsync',
        *_one_of("power", "process"),
    )
    busy_timeout: float = _key(
        5.0, "seconds to wait for a locked database before an error", *_number(0.01, 600)
    )
    postgres_url: str | None = _key(
        None,
        "the PostgreSQL database that keeps the jobs; SQLALCHEMY_DATABASE_URI if that is one",
        _is_text_or_none,
        "a URL such as postgresql://user@host/database",
    )
    postgres_schema: str = _key(
        "offload",
        "the schema of the job tables; apps that share a database need one each",
        lambda value: (
            isinstance(value, str) and 0 < len(value.encode()) <= 50 and "\0" not in value
        ),
        "a name of at most 50 bytes",
    )
    postgres_direct_url: str | None = _key(
        None,
        "how workers reach PostgreSQL where OFFLOAD_POSTGRES_URL is a pooler in transaction mode",
        _is_text_or_none,
        "a URL such as postgresql://user@host/database",
    )
    celery_records: str | None = _key(
        None,
        "the Redis that keeps the jobs' records; taken from the CELERY settings where possible",
        _is_text_or_none,
        "the URL of a Redis",
    )
    celery_prefix: str = _key(
        "offload:",
        "of every key of the records; apps that share a Redis need one each",
        *_text(),
    )
    enqueue_timeout: float = _key(
        2.0,
        "seconds after which an engine that can't be reached is an error",
        *_number(0.05, 600),
    )
    outbox: bool = _key(
        False,
        "keep jobs in a local file while the Celery engine can't be reached",
        *_one_of(True, False),
    )
    inline_raise_errors: bool | None = _key(
        None,
        "the inline engine as a mode without a queue: True: enqueue raises what ends a job FAILED;"
        " False: job.error has it",
        *_one_of(None, True, False),
    )
    worker: str = _key(
        "auto",
        'who runs jobs: "auto": a child of the web process; "thread": threads in it; "off": a'
        " worker that you start",
        *_one_of("auto", "thread", "off"),
    )
    app: str | None = _key(
        None,
        'how a worker imports the app ("pkg:create_app()"); found automatically where possible',
        _is_text_or_none,
        "an import path, as for `flask --app`",
    )
    worker_processes: int = _key(1, "processes of a worker", *_number(1, 256, whole=True))
    worker_threads: int = _key(4, "threads of each process", *_number(1, 1024, whole=True))
    worker_max_jobs: int = _key(
        0,
        "jobs after which a worker replaces a process; 0: no limit",
        *_number(0, 1e9, whole=True),
    )
    worker_max_memory: int = _key(
        0,
        "bytes of memory above which a worker replaces a process, between jobs; 0: no limit",
        lambda value: type(value) is int and (value == 0 or value >= LEAST_MEMORY),
        "0, or a number of bytes from 33,554,432 (32 MiB)",
    )
    async_concurrency: int = _key(
        100, "async jobs at once in each process", *_number(1, 10_000, whole=True)
    )
    drain_timeout: float = _key(
        30.0, "seconds that a stopping worker waits for running jobs", *_number(0, 86_400)
    )
    timeout_grace: float = _key(
        5.0, "seconds between the soft and the hard end of a timed-out job", *_number(0, 86_400)
    )
    max_payload: int = _key(
        1024 * 1024, "bytes of arguments or result", *_number(64, 64 * 1024 * 1024, whole=True)
    )
    max_file: int = _key(
        64 * 1024 * 1024, "bytes of one uploaded file", *_number(1, 1e12, whole=True)
    )
    max_spool: int = _key(
        1024 * 1024 * 1024, "bytes of all uploaded files", *_number(1, 1e15, whole=True)
    )
    keep_successful: float = _key(
        DAY, "seconds that a successful job is kept", *_number(0, 3650 * DAY)
    )
    keep_failed: float = _key(
        30 * DAY, "seconds that a failed or cancelled job is kept", *_number(0, 3650 * DAY)
    )
    keep_count: int = _key(
        100_000, "finished jobs that are kept at most", *_number(0, 1e12, whole=True)
    )
    keep_log: int = _key(
        200,
        "log lines that are kept of each attempt of a job; 0: none",
        *_number(0, 10_000, whole=True),
    )
    capture_print: bool = _key(
        False, "also keep what jobs print, as lines of their log", *_one_of(True, False)
    )
    url_prefix: str = _key(
        "/offload",
        "the prefix of the job resource's addresses",
        _is_prefix,
        'a path like "/offload"',
    )
    words: str | Mapping[str, str] | None = _key(
        None,
        'the words of the pages: "de", "es", or a mapping of the English texts to your own',
        lambda value: value in (None, "en", "de", "es") or _is_words(value),
        'None, "en", "de", "es", or a mapping of texts',
    )
    poll_limit: float = _key(
        100.0, "polls a second that one client may make of one job; 0: no limit", *_number(0, 1e6)
    )
    server_timing: bool | Callable[..., Any] | None = _key(
        None,
        "Server-Timing headers: True, False, or a callable; None: in debug and testing",
        lambda value: value is None or isinstance(value, bool) or callable(value),
        "True, False or a callable",
    )
    spot: bool | float | None = _key(
        None,
        "spot blocking requests: True, False, or a fraction of them; None: in debug and testing",
        lambda value: value is None or (isinstance(value, bool | int | float) and 0 <= value <= 1),
        "True, False or a fraction between 0 and 1",
    )
    spot_above: float = _key(
        200.0, "milliseconds from which a request is reported", *_number(30, 3_600_000)
    )

    alert: str | Callable[..., Any] | None = _key(
        None,
        "what is called with an Alert when a task begins to fail: a function, a task, or its name",
        lambda value: (
            value is None or callable(value) or (isinstance(value, str) and bool(value.strip()))
        ),
        'a function, a task, or the name of one, such as "shop.alerts.tell"',
    )

    dashboard: bool = _key(
        True,
        "the dashboard: for whom @offload.dashboard_access lets in, without it in debug mode for"
        " browsers on this machine; False: never",
        *_one_of(True, False),
    )
    dashboard_mask: tuple[str, ...] | list[str] = _key(
        MASKED,
        "arguments whose values the dashboard does not show: those whose names contain one of these"
        " words",
        lambda value: (
            isinstance(value, tuple | list)
            and all(isinstance(word, str) and word for word in value)
        ),
        'a list of words such as ["password", "token"]',
    )

    log_polls: bool = _key(
        False,
        "in debug mode, whether the development server's log shows polls of the job resource",
        *_one_of(True, False),
    )
    health_max_wait: float = _key(
        600.0,
        "seconds that the first job in line may have waited before /offload/health answers 503",
        *_number(0, 365 * DAY),
    )
    metrics: bool | str = _key(
        False,
        "/offload/metrics for Prometheus: True, or a token that scrapers send (Bearer)",
        lambda value: isinstance(value, bool) or (isinstance(value, str) and bool(value)),
        "True, False or a token",
    )

    @classmethod
    def from_app(cls, app: Flask) -> Config:
        """Read the keys of this app. Raises ConfigError for unknown keys and unusable values."""
        known = {PREFIX + item.name.upper(): item for item in fields(cls)}
        environment = [key.removeprefix("FLASK_") for key in os.environ if key.startswith("FLASK_")]
        for key in [*app.config, *environment]:
            if isinstance(key, str) and key.startswith(PREFIX) and key not in known:
                raise ConfigError(_unknown(key, list(known)))
        values: dict[str, Any] = {}
        for key, item in known.items():
            value = app.config.get(key, _from_environment(key))
            if value is MISSING:
                continue
            value = _parse_words(value)
            if not item.metadata["check"](value):
                raise ConfigError(
                    f"{key} = {value!r} can't be used: it takes {item.metadata['expected']}"
                    f" ({item.metadata['meaning']})"
                )
            values[item.name] = value
        if values.get("engine") == "postgres" and values.get("postgres_url") is None:
            values["postgres_url"] = _postgres_of_sqlalchemy(app)
        return cls(**values)

    def changed_keys(self, app: Flask) -> list[str]:
        """The keys that were set or changed after these settings were read."""
        changed = []
        for item in fields(self):
            key = PREFIX + item.name.upper()
            if key in app.config and _parse_words(app.config[key]) != getattr(self, item.name):
                changed.append(key)
        return changed

    def portable(self) -> dict[str, Any]:
        """The settings as values that another process can receive: `Config(**values)`. Callables
        stay behind; what needs them runs in the process that has imported the app."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in values.items()
            if not callable(value)
        }

    def database(self, app: Flask) -> Path:
        """The absolute path of the SQLite file."""
        path = Path(self.sqlite_path or "offload.sqlite3").expanduser()
        return Path(os.path.abspath(Path(app.instance_path) / path))  # links are kept


def _postgres_of_sqlalchemy(app: Flask) -> str | None:
    """The URL of Flask-SQLAlchemy's database, if it is PostgreSQL, whatever the driver."""
    url = app.config.get("SQLALCHEMY_DATABASE_URI")
    if url is not None and not isinstance(url, str):  # an SQLAlchemy URL object
        url = url.render_as_string(hide_password=False)
    return url if url is not None and url.startswith(("postgresql", "postgres:")) else None


def _from_environment(key: str) -> Any:
    text = os.environ.get(f"FLASK_{key}")
    if text is None:
        return MISSING
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parse_words(value: Any) -> Any:
    return PYTHON_WORDS.get(value, value) if isinstance(value, str) else value


def _unknown(key: str, known: list[str]) -> str:
    (near,) = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"{key} is not a setting of Flask-Offload: did you mean {near}?"
