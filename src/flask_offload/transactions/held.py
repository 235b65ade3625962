"""The jobs of a session whose transaction is open, and the events of its end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flask import g, has_app_context
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, SessionTransaction

from ..jobs.job import JobRecord
from ..jobs.new_job import NewJob

HELD = "flask_offload"
"""The key in `session.info`."""
FAILED = "_offload_request_failed"


class HeldBy(Protocol):
    """What acts when a transaction has ended."""

    def committed(self, held: Sequence[HeldJob]) -> None: ...
    def rolled_back(
        self, held: Sequence[HeldJob], *, is_reported: bool, is_certain: bool
    ) -> None: ...


@dataclass(frozen=True)
class HeldJob:
    """A job whose transaction is open. way: "join", "outbox" or "memory"."""

    owner: HeldBy
    job: NewJob
    record: JobRecord
    way: str
    database: Engine


class HeldJobs:
    """The jobs of one session, by the transaction or savepoint in which they were enqueued."""

    def __init__(self) -> None:
        self.jobs: dict[SessionTransaction, list[HeldJob]] = {}
        self.committed: set[SessionTransaction] = set()
        self.rolled_back: set[SessionTransaction] = set()
        self.is_committing = False
        """COMMIT may have been sent: if it fails, the database may have committed all the same."""


def note_failed(sender: Any, **_: Any) -> None:
    """The request failed: its session is closed for that reason."""
    setattr(g, FAILED, True)


def _before_commit(session: Session) -> None:
    held: HeldJobs | None = session.info.get(HELD)
    if held is not None and session.get_nested_transaction() is None:
        held.is_committing = True


def _after_commit(session: Session) -> None:
    held: HeldJobs | None = session.info.get(HELD)
    transaction = session.get_nested_transaction() or session.get_transaction()
    if held is not None and transaction is not None:
        held.committed.add(transaction)


def _after_rollback(session: Session) -> None:
    held: HeldJobs | None = session.info.get(HELD)
    transaction = session.get_nested_transaction() or session.get_transaction()
    if held is not None and transaction is not None:
        held.rolled_back.add(transaction)


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    held: HeldJobs | None = session.info.get(HELD)
    if held is None:
        return
    jobs = held.jobs.pop(transaction, [])
    if transaction in held.committed and transaction.parent is not None:
        if jobs:
            held.jobs.setdefault(transaction.parent, []).extend(jobs)
        held.committed.discard(transaction)
        return
    is_committed = transaction in held.committed
    is_rolled_back = transaction in held.rolled_back or transaction.parent is not None
    if transaction.parent is None:
        session.info.pop(HELD)
    held.committed.discard(transaction)
    held.rolled_back.discard(transaction)
    for owner in dict.fromkeys(one.owner for one in jobs):
        mine = [one for one in jobs if one.owner is owner]
        if is_committed:
            owner.committed(mine)
        else:
            owner.rolled_back(
                mine,
                is_reported=not is_rolled_back and not _is_failing(),
                is_certain=not held.is_committing,
            )


def _is_failing() -> bool:
    """Whether an error is the reason why a session is closed."""
    return sys.exc_info()[0] is not None or (has_app_context() and g.get(FAILED, False))


@functools.cache
def watch_sessions() -> None:
    """Listen to all sessions of this process from now on."""
    event.listen(Session, "before_commit", _before_commit)
    event.listen(Session, "after_commit", _after_commit)
    event.listen(Session, "after_rollback", _after_rollback)
    event.listen(Session, "after_transaction_end", _after_transaction_end)
