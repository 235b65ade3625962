"""django-tasks-db on SQLite."""

from __future__ import annotations

import django

django.setup()

from django.core.management import call_command  # noqa: E402

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
    call_command("migrate", verbosity=0)


def enqueue(sent: float) -> None:
    """Enqueue it."""
    job.enqueue(sent)
