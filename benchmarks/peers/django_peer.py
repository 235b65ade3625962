"""django-tasks-db on SQLite, or on Postgres."""

from __future__ import annotations

import os

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task

from benchmarks.note import note  # noqa: E402


@task()  # type: ignore[untyped-decorator]
def job(sent: float) -> None:
    """The common task, under a name by which the worker finds the task and not the function."""
    note(sent)


def prepare() -> None:
    """Make the tables."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {os.environ['BENCH_PLACE']}")
    call_command("migrate", verbosity=0)


def enqueue(sent: float) -> None:
    """Enqueue it."""
    job.enqueue(sent)
