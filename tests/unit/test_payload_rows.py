"""Database rows travel as references and are fetched anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from flask_offload.errors import PayloadError, RowGone
from flask_offload.payload.calls import CallSpec, Codecs, decode_value, encode_value

LIMIT = 10_000


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class User(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Admin(User):
    id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    rank: Mapped[int]


class Membership(db.Model):  # type: ignore[name-defined, misc]
    user_id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[UUID] = mapped_column(primary_key=True)


class Audit(db.Model):  # type: ignore[name-defined, misc]
    __bind_key__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)


class PlainBase(MappedAsDataclass, DeclarativeBase):
    pass


class Note(PlainBase):
    """Without Flask-SQLAlchemy, and a dataclass besides."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    text: Mapped[str]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/app.db"
    app.config["SQLALCHEMY_BINDS"] = {"log": f"sqlite:///{tmp_path}/log.db"}
    db.init_app(app)
    with app.app_context():
        db.create_all()
    yield app
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def send(user: User, others: list[User] | None = None) -> None:
    pass


CODECS = Codecs()
SPEC = CallSpec(send, "shop.send", CODECS)


def save(row: Any) -> Any:
    db.session.add(row)
    db.session.commit()
    return row


def test_a_row_is_fetched_anew_in_the_job(app: Flask) -> None:
    with app.app_context():
        user = save(User(name="old"))
        data = SPEC.encode((user,), {"others": [user]}, limit=LIMIT).data
        assert b"old" not in data
        user.name = "new"
        db.session.commit()
    with app.app_context():
        (found,), kwargs = SPEC.decode(data)
        assert type(found) is User
        assert found is not user
        assert found.name == "new"
        assert kwargs["others"] == [found]
        assert found in db.session  # lazy relations and changes work as usual


def test_a_row_that_this_session_has_seen_before_is_read_again(app: Flask) -> None:
    with app.app_context():
        user = save(User(name="old"))
        data = SPEC.encode((user,), {}, limit=LIMIT).data
        assert user.name == "old"
        with Session(db.engine) as other:
            other.get_one(User, user.id).name = "new"
            other.commit()
        (found,), _ = SPEC.decode(data)
        assert found.name == "new"


def test_subclasses_composite_keys_and_binds(app: Flask) -> None:
    team = uuid4()
    with app.app_context():
        rows = [
            save(Admin(name="a", rank=1)),
            save(Membership(user_id=1, team=team)),
            save(Audit()),
        ]
        data = encode_value(rows, CODECS, what="it", limit=LIMIT)
    with app.app_context():
        admin, membership, audit = decode_value(data, CODECS)
        assert (type(admin), admin.rank) == (Admin, 1)
        assert (membership.user_id, membership.team) == (1, team)
        assert type(audit) is Audit


def test_a_deleted_row_has_an_error_of_its_own(app: Flask) -> None:
    with app.app_context():
        user = save(User(name="x"))
        data = SPEC.encode((user,), {}, limit=LIMIT).data
        key = user.id
        db.session.delete(user)
        db.session.commit()
    with app.app_context(), pytest.raises(RowGone) as info:
        SPEC.decode(data)
    assert str(info.value) == (
        f"task 'shop.send': the stored arguments can't be read: the User with the primary key {key}"
        " does not exist: it was deleted, or not committed before the job was enqueued"
    )


def refusal(row: Any) -> str:
    with pytest.raises(PayloadError) as info:
        SPEC.encode((row,), {}, limit=LIMIT)
    return str(info.value)


def test_what_another_process_could_not_see_is_refused(app: Flask) -> None:
    with app.app_context():
        user = User(name="x")
        assert refusal(user) == (
            "task 'shop.send': argument 'user' is a User that has not been saved: commit first,"
            " then enqueue"
        )
        db.session.add(user)
        assert "has not been saved" in refusal(user)
        db.session.flush()
        assert "has been flushed but not committed" in refusal(user)
        db.session.commit()
        assert SPEC.encode((user,), {}, limit=LIMIT)
        user.name = "y"
        assert "has unsaved changes" in refusal(user)
        db.session.flush()
        assert "has been flushed but not committed" in refusal(user)
        db.session.rollback()
        assert SPEC.encode((user,), {}, limit=LIMIT)
        db.session.delete(user)
        assert "has been deleted" in refusal(user)
        db.session.flush()
        assert "has been deleted" in refusal(user)
        db.session.commit()
        assert "has been deleted" in refusal(user)


def test_a_row_inserted_in_a_savepoint_is_not_committed_yet(app: Flask) -> None:
    with app.app_context():
        with db.session.begin_nested():
            user = User(name="x")
            db.session.add(user)
            db.session.flush()
            assert "flushed but not committed" in refusal(user)
        assert "flushed but not committed" in refusal(user)
        with db.session.begin_nested():
            assert "flushed but not committed" in refusal(user)
        db.session.commit()
        assert SPEC.encode((user,), {}, limit=LIMIT)


def test_a_row_whose_session_is_gone_is_encoded(app: Flask) -> None:
    with app.app_context():
        user = save(User(name="x"))
        assert user.id
    data = SPEC.encode((user,), {}, limit=LIMIT).data
    with app.app_context():
        (found,), _ = SPEC.decode(data)
        assert found.name == "x"


def test_a_row_needs_an_app_context_and_an_extension(app: Flask) -> None:
    with app.app_context():
        data = SPEC.encode((save(User(name="x")),), {}, limit=LIMIT).data
    with pytest.raises(PayloadError, match="decode it inside an app context"):
        SPEC.decode(data)
    with (
        Flask("other").app_context(),
        pytest.raises(PayloadError, match=r"no Flask-SQLAlchemy: set offload\.codecs\.session"),
    ):
        SPEC.decode(data)


def test_plain_sqlalchemy(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/plain.db")
    PlainBase.metadata.create_all(engine)
    sessions = scoped_session(sessionmaker(engine))
    codecs = Codecs()
    codecs.session = sessions
    note = Note(text="hello")
    sessions.add(note)
    sessions.commit()
    data = encode_value(note, codecs, what="it", limit=LIMIT)
    assert b"hello" not in data  # a row, not a dataclass
    sessions.remove()
    found = decode_value(data, codecs)
    assert (type(found), found.text) == (Note, "hello")
    sessions.remove()
    engine.dispose()


@pytest.mark.parametrize(
    "forged",
    [
        '["row","test_payload_rows:User",[]]',
        '["row","test_payload_rows:User",[1,2]]',
        '["row","test_payload_rows:User",[[1]]]',
        '["row","test_payload_rows:User",[{"$":["set",[]]}]]',
        '["row","test_payload_rows:User",1]',
        '["row","test_payload_rows:Base",[1]]',
        '["row","test_payload_rows:Membership",[1,"no uuid"]]',
        '["dataclass","test_payload_rows:Note",{"id":1,"text":"x"}]',
    ],
)
def test_forged_references(app: Flask, forged: str) -> None:
    with app.app_context(), pytest.raises(PayloadError):
        decode_value(f'{{"$":{forged}}}', CODECS)


def test_a_database_that_fails_is_not_a_payload_error(app: Flask) -> None:
    from sqlalchemy.exc import OperationalError

    with app.app_context():
        data = SPEC.encode((save(User(name="x")),), {}, limit=LIMIT).data
        db.drop_all()
    with app.app_context(), pytest.raises(OperationalError):
        SPEC.decode(data)
