"""Rows of relayed jobs stay for some seconds, so that they are deleted together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from flask_offload import JobNotFound, JobStatus
from flask_offload.testing import drain
from flask_offload.transactions import relay
from flask_offload.transactions.outbox import BATCH
from signup_app import Signup, signup
from support import wait_until


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Signup]:
    """With a relay that has a thread, and deletes rows late."""
    monkeypatch.setattr(relay, "DELETE_AFTER", 3600)
    with signup(f"sqlite:///{tmp_path / 'app.sqlite3'}", tmp_path, TESTING=False) as made:
        yield made


def _relayed(site: Signup, count: int) -> None:
    wait_until(lambda: sum(site.state.engine.count().values()) == count, 20, "the relay")


def _rows(site: Signup) -> int:
    transactions: Any = site.state.transactions
    return int(transactions._outbox.waiting(site.db.engine)[0])


def test_rows_of_several_transactions_are_deleted_by_one_statement(site: Signup) -> None:
    deletes = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        deletes.extend([statement] * statement.startswith("DELETE"))

    event.listen(site.db.engine, "before_cursor_execute", note)
    for number in range(3):
        site.add(f"user {number}")
        site.welcome.enqueue(f"user {number}")
        site.db.session.commit()
        _relayed(site, number + 1)
    assert _rows(site) == 3
    assert not deletes
    site.settle()
    assert _rows(site) == 0
    assert len(deletes) == 1


def test_so_many_rows_are_deleted_at_once(site: Signup) -> None:
    site.add("ann")
    site.offload.enqueue_many([site.welcome.call(f"{number}") for number in range(BATCH)])
    site.db.session.commit()
    wait_until(lambda: _rows(site) == 0, 20, "the delete")


def test_a_row_that_was_relayed_is_no_job_that_waits(site: Signup) -> None:
    site.add("ann")
    job = site.welcome.enqueue("ann")
    gone = site.welcome.enqueue("bob")
    site.db.session.commit()
    _relayed(site, 2)
    assert job.cancel().status is JobStatus.CANCELLED
    assert [one.id for one in drain(site.app)] == [gone.id]
    site.state.engine.prune(before=site.state.clock() + 1e8)
    assert _rows(site) == 2
    for one in (job, gone):
        with pytest.raises(JobNotFound):
            site.offload.get_job(one.id)
    transactions: Any = site.state.transactions
    assert transactions._relay.relay(site.db.engine, before=2e9) == 2  # as the sweep does
    assert _rows(site) == 0
    assert sum(site.state.engine.count().values()) == 0


def test_closing_deletes_them(site: Signup) -> None:
    site.add("ann")
    site.welcome.enqueue("ann")
    site.db.session.commit()
    _relayed(site, 1)
    assert site.relay is not None
    site.relay.close()
    assert _rows(site) == 0
