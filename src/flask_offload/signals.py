"""Signals (blinker) about jobs and workers, like Flask's own.

The sender is always the app. Receivers get keyword arguments:

- `enqueued`: `job` (a Job). Sent where enqueue() was called, after the commit.
- `started`, `retried`, `succeeded`, `failed`, `cancelled`: `claim` (the attempt: `id`, `task`,
  `attempt`, …) and, except for `started`, `outcome`. Sent in the process that runs the job,
  before the outcome is written to the database. For a job that is cancelled while it waits,
  `cancelled` is sent in the process that cancels it, with `outcome=None`.
- `crashed`: `job_id`, `task`, `attempt`, `reason`. Sent in a worker process of the app, when
  another one died. If that ends the job, `failed` follows; for a job that was stopped by force,
  `cancelled`. These are sent at least once: again if a process dies that is sending them.
- `worker_process_started`: nothing. Sent in a process that was forked after the app was made, on
  the Celery engine: close there what must not be shared with the parent, such as connections.
  SQLAlchemy's are dealt with.
- `action`: `who`, `what` and `jobs` (a list of ids, or a text such as "status=FAILED"). Sent in the
  web process after someone has done something on the dashboard.
- `worker_started`, `worker_stopped`: `worker` (its id). Sent in each process that runs jobs.

An exception in a receiver is logged; it never affects the job.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Any

from blinker import NamedSignal, Namespace

from .role import is_worker

_signals = Namespace()

enqueued: NamedSignal = _signals.signal("offload-job-enqueued")
started: NamedSignal = _signals.signal("offload-job-started")
retried: NamedSignal = _signals.signal("offload-job-retried")
succeeded: NamedSignal = _signals.signal("offload-job-succeeded")
failed: NamedSignal = _signals.signal("offload-job-failed")
cancelled: NamedSignal = _signals.signal("offload-job-cancelled")
crashed: NamedSignal = _signals.signal("offload-job-crashed")
action: NamedSignal = _signals.signal("offload-action")
worker_started: NamedSignal = _signals.signal("offload-worker-started")
worker_stopped: NamedSignal = _signals.signal("offload-worker-stopped")
worker_process_started: NamedSignal = _signals.signal("offload-worker-process-started")


def send(signal: NamedSignal, sender: Any, **what: Any) -> None:
    """Send the signal to each receiver; an exception in one is logged and does not stop others.

    But for ^C and SystemExit in the main thread of a web process: its server may have raised them.
    """
    for receiver in signal.receivers_for(sender) if signal.receivers else ():
        try:
            receiver(sender, **what)
        except BaseException as error:
            is_main = threading.current_thread() is threading.main_thread()
            if not issubclass(type(error), Exception) and is_main and not is_worker():
                raise
            with suppress(BaseException):  # it may have been the log itself that failed
                logging.getLogger("flask_offload").exception(
                    "a receiver of the signal %s failed",
                    signal.name,
                    extra={"action": "receiver_failed"},
                )
