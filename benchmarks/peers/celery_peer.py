"""Celery, on Redis or RabbitMQ; with a result backend if BENCH_RESULTS has its URL. BENCH_CONFIRM:
a sender waits until RabbitMQ confirms the message."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.note import note

app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ.get("BENCH_RESULTS"))
app.conf.task_default_queue = os.environ["BENCH_PLACE"]
if os.environ.get("BENCH_CONFIRM"):
    app.conf.broker_transport_options = {"confirm_publish": True}
job = app.task(note)


def prepare() -> None:
    """Nothing to do."""


def enqueue(sent: float) -> None:
    """Send it."""
    job.delay(sent)
