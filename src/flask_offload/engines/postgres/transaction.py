"""One transaction on a connection, repeated where PostgreSQL asks for that."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg
from psycopg import errors

from .connection import PgConnection

T = TypeVar("T")

REPEAT: Final = (errors.DeadlockDetected, errors.SerializationFailure)
REPEATS: Final = 5

DURABLE: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
"""The commit waits for the disk, unless the server is set up otherwise."""
ASYNC: Final = DURABLE + b"; SET LOCAL synchronous_commit = off"
"""The commit may be lost if the server crashes within the next moments."""
READ: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""All statements see the same."""


class CommitUnknown(Exception):
    """The connection broke while the server was asked to commit: it has, or it has not."""

    def __init__(self, result: object, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.result = result
        self.error = error


def transact(
    connection: PgConnection, work: Callable[[PgConnection], T], *, timeout: float, begin: bytes
) -> T:
    """Run `work` in a transaction. Raises psycopg's errors, and then nothing was done, and
    CommitUnknown. After either the connection is closed unless it can be used again.

    timeout: seconds for all of it. begin: one of the kinds above.
    """
    raw = connection.raw
    raw.deadline = time.monotonic() + timeout
    for left in range(REPEATS, -1, -1):
        try:
            raw.execute(begin, prepare=False)
            result = work(connection)
            try:
                raw.execute(b"COMMIT", prepare=False)
            except psycopg.OperationalError as error:
                if raw.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    raise CommitUnknown(result, error) from error
                raise
            return result
        except BaseException as error:
            _roll_back(connection)
            if not isinstance(error, REPEAT) or not left or raw.closed:
                raise
    raise AssertionError("unreachable")


def _roll_back(connection: PgConnection) -> None:
    """Undo what was done; a connection that does not answer at once is closed, which does it."""
    raw = connection.raw
    status = raw.pgconn.transaction_status
    in_transaction = (psycopg.pq.TransactionStatus.INTRANS, psycopg.pq.TransactionStatus.INERROR)
    if status in in_transaction:
        with contextlib.suppress(psycopg.Error):
            raw.execute(b"ROLLBACK", prepare=False)
    if raw.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        raw.close()
