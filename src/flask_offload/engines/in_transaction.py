"""What an engine can do for jobs that belong to a transaction of the app's own database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ..jobs.job import JobRecord
from ..jobs.new_job import NewJob


class InTransaction(ABC):
    """The part of an engine that a transaction of the app uses."""

    @abstractmethod
    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs, all or none."""

    def relay(self, jobs: Sequence[NewJob], deadline: float) -> list[JobRecord]:
        """Accept jobs of an outbox under the ids that they have: each once, however often this is
        called. Returns the records of those that were new; one with `is_duplicate` is that of the
        job whose unique key was taken.

        deadline: monotonic seconds after which nothing may be accepted. This one is for engines
        whose `enqueue` ignores a known id. Raises EngineUnavailable.
        """
        return self.enqueue(jobs)

    def was_relayed(self, job_id: str) -> bool:
        """Whether a job of an outbox was accepted, although its row may still be there. Raises
        EngineUnavailable."""
        return False

    def forget_relayed(self, ids: Sequence[str]) -> None:  # noqa: B027 (most remember nothing)
        """These jobs have left their outbox. Raises EngineUnavailable."""

    def is_in(self, url: Any) -> bool:
        """Whether the jobs are in the database of this SQLAlchemy URL, so that `join` can be used
        and no outbox is needed."""
        return False

    def prepare_join(self, jobs: Sequence[NewJob]) -> None:  # noqa: B027
        """What `join` needs and must not wait for the end of the app's transaction."""

    def join(self, connection: Any, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs in the transaction of this SQLAlchemy connection. Raises SQLAlchemy's
        errors, as any statement of that transaction does."""
        raise NotImplementedError
