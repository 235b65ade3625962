"""The logger `flask_offload`: `write` for every log line, and the lines written for each signal.

Each line has a stable `action` field, and `job_id`, `task` and `attempt` where there is a job:
attributes of the record, for formatters and filters.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
from collections.abc import Iterator
from typing import Any

from blinker import NamedSignal
from flask.logging import default_handler

from .. import signals
from ..textui import plain
from .attempt import Claim, Outcome
from .context import active

logger: logging.Logger = logging.getLogger("flask_offload")


def write(
    level: int, action: str, message: str, *values: Any, details: str = "", **fields: Any
) -> None:
    """Log one line with these fields. details: text of several lines that follows it, indented.

    Values and fields may be texts of a task, a client or another process: they can't forge a line.
    Not through `extra=`, which refuses fields that `add_job_fields` has set on the record.
    """
    logger.disabled = False  # dictConfig disables all existing loggers by default
    if logger.isEnabledFor(level):
        safe: tuple[Any, ...] = tuple(map(_on_one_line, values))
        if details:
            message, safe = f"{message}%s", (*safe, _indented(details))
        record = logger.makeRecord(logger.name, level, __file__, 0, message, safe, None)
        safe_fields = {name: _on_one_line(value) for name, value in fields.items()}
        record.__dict__.update(safe_fields, action=action)
        logger.handle(record)


def _on_one_line(value: Any) -> Any:
    return plain(str(value)) if isinstance(value, (str, BaseException)) else value


def _indented(text: str) -> str:
    """The lines of the text, none of which begins as a line of the log does."""
    return "".join(f"\n  {plain(line)}" for line in text.splitlines())


def has_receivers(signal: NamedSignal, level: int) -> bool:
    """Whether the signal has a receiver: the log, if its level is enabled, or a function of the
    app.

    Sending a signal that only a disabled log receives would take a quarter of a short job's time.
    """
    logger.disabled = False  # as in write()
    return logger.isEnabledFor(level) or len(signal.receivers) > 1


def schedule_fired(schedule: str, job_id: str, task: str) -> None:
    """Log that a worker has enqueued the job of a schedule."""
    message = "schedule %s: job %s enqueued"
    write(logging.INFO, "schedule_fired", message, schedule, job_id, job_id=job_id, task=task)


def _log_failure(app: Any, claim: Claim, outcome: Outcome) -> None:
    """Log the failure of a job to the logger of its task, and to the handlers of `app.logger` that
    this logger does not reach, with the exception if it was raised in this process."""
    error = outcome.exception
    trace = outcome.error.traceback if outcome.error and error is None else None
    why = _why(outcome) + _indented(trace or "")
    own = logging.getLogger(f"{logger.name}.task.{claim.task}")
    logger.disabled = own.disabled = False  # as in write()
    if not own.isEnabledFor(logging.ERROR):
        return
    record = own.makeRecord(
        own.name,
        logging.ERROR,
        __file__,
        0,
        "%s of %s, attempt %d: failed after %.3f s: %s",
        (claim.id, claim.task, claim.attempt, _seconds(outcome), why),
        None if error is None else (type(error), error, error.__traceback__),
    )
    fields = {"job_id": claim.id, "task": claim.task, "attempt": claim.attempt}
    record.__dict__.update(fields, action="job_failed")
    with _tags_for_sentry(claim):
        own.handle(record)
    if app is not None and app.logger.isEnabledFor(logging.ERROR):
        reached = {*_handlers(own), default_handler}
        for handler in _handlers(app.logger):
            if handler not in reached and record.levelno >= handler.level:
                handler.handle(record)


def _handlers(start: logging.Logger) -> Iterator[logging.Handler]:
    """The handlers that get the lines of a logger."""
    at: logging.Logger | None = start
    while at is not None:
        yield from at.handlers
        at = at.parent if at.propagate else None


@contextlib.contextmanager
def _tags_for_sentry(claim: Claim) -> Iterator[None]:
    """Let sentry_sdk, which sends each line of a failure, tag it with the job, if it is in use."""
    sentry = sys.modules.get("sentry_sdk")
    if sentry is None or not hasattr(sentry, "new_scope"):
        yield
        return
    with sentry.new_scope() as scope:
        scope.set_tag("job_id", claim.id)
        scope.set_tag("task", claim.task)
        yield


def _write(level: int, action: str, claim: Claim, message: str, *values: Any) -> None:
    write(
        level,
        action,
        "%s of %s, attempt %d: " + message,
        claim.id,
        claim.task,
        claim.attempt,
        *values,
        job_id=claim.id,
        task=claim.task,
        attempt=claim.attempt,
    )


def _seconds(outcome: Outcome) -> float:
    return outcome.finished_at - outcome.started_at


def _why(outcome: Outcome) -> str:
    error = outcome.error
    return plain(f"{error.type}: {error.message}") if error else "no reason given"


@signals.enqueued.connect
def _enqueued(sender: Any, *, job: Any) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        message = "%s of %s enqueued in %s"
        fields = {"job_id": job.id, "task": job.task}
        write(logging.DEBUG, "job_enqueued", message, job.id, job.task, job.queue_name, **fields)


@signals.started.connect
def _started(sender: Any, *, claim: Claim) -> None:
    _write(logging.DEBUG, "job_started", claim, "started")


@signals.succeeded.connect
def _succeeded(sender: Any, *, claim: Claim, outcome: Outcome) -> None:
    _write(logging.INFO, "job_succeeded", claim, "succeeded in %.3f s", _seconds(outcome))


@signals.retried.connect
def _retried(sender: Any, *, claim: Claim, outcome: Outcome) -> None:
    _write(
        logging.WARNING,
        "job_retried",
        claim,
        "failed after %.3f s, runs again in %.3g s: %s",
        _seconds(outcome),
        outcome.after,
        _why(outcome),
    )


@signals.failed.connect
def _failed(sender: Any, *, claim: Claim, outcome: Outcome) -> None:
    with contextlib.suppress(SystemExit, GeneratorExit):  # a handler must not end the process
        _log_failure(sender, claim, outcome)


@signals.cancelled.connect
def _cancelled(sender: Any, *, claim: Claim, outcome: Outcome | None) -> None:
    why = "while it waited" if outcome is None else _why(outcome)
    _write(logging.INFO, "job_cancelled", claim, "cancelled: %s", why)


@signals.crashed.connect
def _crashed(sender: Any, *, job_id: str, task: str, attempt: int, reason: str) -> None:
    message = "%s of %s, attempt %d: its process died (%s)"
    fields: dict[str, Any] = {"job_id": job_id, "task": task, "attempt": attempt}
    write(logging.ERROR, "job_crashed", message, job_id, task, attempt, reason, **fields)


@signals.worker_started.connect
def _worker_started(sender: Any, *, worker: str) -> None:
    write(logging.INFO, "worker_started", "worker %s started", worker, worker=worker)


@signals.worker_stopped.connect
def _worker_stopped(sender: Any, *, worker: str) -> None:
    write(logging.INFO, "worker_stopped", "worker %s stopped", worker, worker=worker)


class _PlainFormatter(logging.Formatter):
    """The text of an exception can't forge a line of the log."""

    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei)).removeprefix("\n")


_own_handler = logging.StreamHandler()
_own_handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))


class _Terminal(_PlainFormatter):
    """Short lines for the terminal of a development server: `send #6b0a1f2e started`."""

    def format(self, record: logging.LogRecord) -> str:
        action = getattr(record, "action", "")
        task, job_id = getattr(record, "task", ""), getattr(record, "job_id", "")
        job = f"{task.rpartition('.')[2]} #{job_id[:12]}"
        if action == "job_started":
            return f"{job} started"
        if action == "job_succeeded" and isinstance(record.args, tuple):
            return f"{job} done in {record.args[-1]:.3g} s"
        if job_id:
            record = copy.copy(record)  # other handlers get it, too
            named = record.getMessage().replace(f"{job_id} of {task}", job)
            record.msg, record.args = named.replace(job_id, f"#{job_id[:12]}"), None
        return super().format(record)


def set_up(level: str, *, in_terminal: bool = False, yields: bool = False) -> None:
    """In a worker, before the app is imported: add a handler unless there is one.

    in_terminal: it shows when jobs start and end, in short lines, whatever the level. yields: if
    the app configures logging, its levels apply.
    """
    logger.setLevel(level.upper())
    if in_terminal:
        logger.setLevel(logging.DEBUG)
        _own_handler.setFormatter(_Terminal("%(asctime)s %(levelname)s %(message)s"))
        _own_handler.addFilter(
            lambda record: (
                record.levelno >= logging.INFO or getattr(record, "action", "") == "job_started"
            )
        )
    _own_handler.setLevel(logger.level if yields else logging.NOTSET)
    if not logger.handlers and not logging.getLogger().handlers:
        logger.addHandler(_own_handler)


def use_app_logging() -> None:
    """After the import, if the app configured logging: remove that handler, to log lines once."""
    if logging.getLogger().handlers:
        logger.removeHandler(_own_handler)
        if logger.level == _own_handler.level:
            logger.setLevel(logging.NOTSET)


def add_job_fields() -> None:
    """Set `job_id`, `task` and `attempt` of the running job on every log record of this process.

    For worker processes only; the values are "" and 0 where no job runs.
    """
    make = logging.getLogRecordFactory()

    def make_with_job(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        job = active.get(None)
        record.job_id = job.id if job else ""
        record.task = job.task if job else ""
        record.attempt = job.attempt if job else 0
        return record

    logging.setLogRecordFactory(make_with_job)
