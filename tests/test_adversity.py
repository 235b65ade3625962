"""What torture has found, each in its smallest form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from flask_offload.engines.base import THREADS, NewJob
from flask_offload.engines.sqlite import SqliteEngine
from flask_offload.engines.sqlite.ledger import Ledger, Retention
from flask_offload.job import new_id

KEEP = Retention(3600.0, 3600.0, 1000)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(tmp_path / "jobs.sqlite3")
    yield made
    made.close()


def job(queue_name: str = "default") -> NewJob:
    return NewJob(
        id=new_id(), task="t", queue_name=queue_name, priority=0, enqueued_at=1.0, args="[]"
    )


def test_a_queue_whose_first_job_could_not_be_enqueued_is_served(engine: SqliteEngine) -> None:
    engine.enqueue([job("other")])
    twice = job("mail")
    with pytest.raises(apsw.ConstraintError):  # as a full disk, it takes the transaction back
        engine.enqueue([twice, twice])
    engine.enqueue([twice])
    visit = Ledger(engine, "w1", KEEP, ["mail"]).exchange([], {THREADS: 10})
    assert [claim.id for claim in visit.claims] == [twice.id]
