"""Signals (blinker), in the manner of Flask's own: connect a function to hear of jobs and workers.

The sender is always the app. Receivers get keyword arguments:

- `enqueued`: `job` (a Job). Sent where enqueue() was called, after the commit.
- `started`, `retried`, `succeeded`, `failed`, `cancelled`: `claim` (what is run: `id`, `task`,
  `attempt`, …) and, except for `started`, `outcome`. Sent in the process that runs the job,
  before the outcome is written to the database. A job that is cancelled while it waits is told
  of where that is done, with `outcome=None`.
- `crashed`: `job_id`, `task`, `attempt`, `reason`. Sent in a process of the worker's app, when
  another one died. If that ends the job, `failed` follows; a job that was stopped by force is
  told of in the same way, as `cancelled`.
- `worker_started`, `worker_stopped`: `worker` (its id). Sent in each process that runs jobs.

A receiver that raises is logged; it never changes what becomes of the job.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from blinker import NamedSignal, Namespace

_signals = Namespace()

enqueued = _signals.signal("offload-job-enqueued")
started = _signals.signal("offload-job-started")
retried = _signals.signal("offload-job-retried")
succeeded = _signals.signal("offload-job-succeeded")
failed = _signals.signal("offload-job-failed")
cancelled = _signals.signal("offload-job-cancelled")
crashed = _signals.signal("offload-job-crashed")
worker_started = _signals.signal("offload-worker-started")
worker_stopped = _signals.signal("offload-worker-stopped")


def send(signal: NamedSignal, sender: Any, **what: Any) -> None:
    """Send it; receivers' errors are logged, and those after them still hear of it."""
    for receiver in signal.receivers_for(sender) if signal.receivers else ():
        try:
            receiver(sender, **what)
        except Exception:
            with suppress(Exception):  # it may have been the log itself that failed
                logging.getLogger("flask_offload").exception(
                    "a receiver of the signal %s failed",
                    signal.name,
                    extra={"action": "receiver_failed"},
                )
