"""Rows of the transaction to which a job belongs, as its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_offload import Offload, PayloadError
from flask_offload.testing import drain


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Member(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


offload = Offload()


@offload.task
def greet(member: Member) -> str:
    return member.name


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = Flask("members", instance_path=str(tmp_path))
    app.config.update(
        TESTING=True,
        OFFLOAD_WORKER="off",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/members.sqlite3",
    )
    db.init_app(app)
    offload.init_app(app, db=db)
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        db.engine.dispose()
        offload.engine.close()


def test_a_row_that_is_flushed_goes_along_with_its_job(app: Flask) -> None:
    member = Member(name="ann")
    db.session.add(member)
    with pytest.raises(PayloadError, match="has not been saved: flush first"):
        greet.enqueue(member)
    db.session.flush()
    greet.enqueue(member)
    member.name = "ann lee"  # is written by the same commit
    greet.enqueue(member)
    db.session.commit()
    assert [job.return_value for job in drain(app)] == ["ann lee", "ann lee"]


def test_a_job_outside_of_the_transaction_could_not_see_the_row(app: Flask) -> None:
    member = Member(name="ann")
    db.session.add(member)
    db.session.flush()
    with pytest.raises(PayloadError, match="flushed but not committed: commit first"):
        greet.using(after_commit=False).enqueue(member)
    db.session.delete(member)
    db.session.flush()
    with pytest.raises(PayloadError, match="has been deleted"):
        greet.enqueue(member)
