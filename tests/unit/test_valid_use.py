"""Valid use is accepted; wrong use gets a sentence that says what to write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NotRequired, Required, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.track_modifications import models_committed
from sqlalchemy import event

from flask_offload import NotInitialized, Offload, OptionError, PayloadError
from flask_offload.payload.calls import Codecs, decode_value, encode_value
from flask_offload.testing import drain

T = TypeVar("T")
CODECS = Codecs()


class Priced(TypedDict):
    name: str
    price: NotRequired[Decimal]


class Sparse(TypedDict, total=False):
    name: Required[Decimal]  # evaluated nowhere, and needed
    note: str


@dataclass
class Page(Generic[T]):
    items: list[T]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = Flask(__name__)
    app.testing = True
    app.config.update(
        OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3",
        OFFLOAD_SPOT=False,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'app.sqlite3'}",
        SQLALCHEMY_TRACK_MODIFICATIONS=True,
    )
    offload = Offload(app)
    yield app
    with app.app_context():
        offload.engine.close()


def offload_of(app: Flask) -> Offload:
    offload: Offload = app.extensions["offload"]
    return offload


def test_keys_of_types_that_can_not_be_evaluated(app: Flask) -> None:
    @offload_of(app).task
    def sell(item: Priced) -> str:
        return item["name"]

    @offload_of(app).task
    def name(item: Sparse) -> None: ...

    with app.app_context():
        sell.enqueue({"name": "x"})
        with pytest.raises(PayloadError, match="with the key 'name'"):
            name.enqueue({"note": "x"})  # type: ignore[typeddict-item]


def test_generic_dataclasses() -> None:
    page = decode_value(encode_value(Page[int]([1]), CODECS, what="it", limit=1000), CODECS)
    assert page == Page([1])


def test_moments_of_a_frozen_clock() -> None:
    freezegun = pytest.importorskip("freezegun")
    with freezegun.freeze_time("2027-01-02 03:04:05"):
        for value in (datetime.now(UTC), datetime.now(), date.today()):
            data = encode_value([value], CODECS, what="it", limit=1000)
            assert decode_value(data, CODECS) == [value]


class Stamp(datetime):
    """As pendulum's and others'."""


class Day(date):
    """The same of a day."""


class Clock(time):
    """The same of a time of day."""


class Span(timedelta):
    """As pandas' Timedelta and pendulum's Duration."""


class Key(UUID):
    """As asyncpg's."""


class Amount(Decimal):
    """As a money library's."""


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {}


class NaTType(datetime):
    """As pandas': its conversion returns it again."""

    def to_pydatetime(self) -> NaTType:
        return self


class NAType:
    """As pandas'."""


class longdouble:
    """As numpy's, whose plain value is itself."""

    def tolist(self) -> longdouble:
        return self

    def __float__(self) -> float:
        return 1.5


class Moments(list[Any]):
    """As pandas' DatetimeIndex, which becomes an array of moments."""

    def to_pydatetime(self) -> Moments:
        return self

    def tolist(self) -> list[Any]:
        return list(self)


@pytest.mark.parametrize(
    ("value", "remedy", "plain"),
    [
        (Stamp(2027, 1, 1), "datetime.fromisoformat(value.isoformat())", datetime(2027, 1, 1)),
        (Day(2027, 1, 1), "date.fromordinal(value.toordinal())", date(2027, 1, 1)),
        (Clock(1, 2, 3), "time.fromisoformat(value.isoformat())", time(1, 2, 3)),
        (Span(1, 2, 3), "timedelta(seconds=value.total_seconds())", timedelta(1, 2, 3)),
        (Key(int=5), "UUID(int=value.int)", UUID(int=5)),
        (Amount("1.50"), "Decimal(value)", Decimal("1.50")),
        (Model(), "value.model_dump()", {}),
        (NaTType(2027, 1, 1), "None", None),
        (NAType(), "None", None),
        (longdouble(), "float(value)", 1.5),
        (Moments([1]), "value.to_pydatetime().tolist()", [1]),
    ],
)
def test_a_refusal_names_a_conversion_that_works(value: Any, remedy: str, plain: Any) -> None:
    with pytest.raises(PayloadError, match=re.escape(f": pass {remedy}, or register")):
        encode_value(value, CODECS, what="it", limit=1000)
    converted = eval(remedy, {**globals(), "value": value})
    assert decode_value(encode_value(converted, CODECS, what="it", limit=1000), CODECS) == plain


class Imitation:
    """As a number of numpy's: its class has the name of a built-in one."""

    def tolist(self) -> bool:
        return True


Imitation.__qualname__ = Imitation.__name__ = "bool"


class Berlin(tzinfo):
    """As pytz's, whose classes are named after their zones."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> None: ...

    def tzname(self, moment: datetime | None) -> str:
        return "CET"


Berlin.__qualname__ = "Europe/Berlin"


class LazyString:
    """As flask_babel's."""


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            Imitation(),
            "is of type test_valid_use.bool, which can't be encoded: pass value.tolist()",
        ),
        (
            datetime(2027, 1, 1, tzinfo=Berlin()),
            "it.tzinfo is of type test_valid_use.Europe/Berlin, which can't be encoded: pass the"
            " moment with another one: moment.astimezone(ZoneInfo(key)) or (UTC)",
        ),
        (LazyString(), "is of type LazyString, which can't be encoded: pass str(value)"),
        (MappingProxyType({}), "is of type mappingproxy, which can't be encoded: pass dict(value)"),
    ],
)
def test_a_refusal_names_what_is_refused(value: Any, sentence: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(sentence)):
        encode_value(value, CODECS, what="it", limit=1000)


def test_values_of_libraries_in_annotated_places(app: Flask) -> None:
    pytz = pytest.importorskip("pytz")

    @offload_of(app).task
    def switch(on: bool) -> None: ...

    with app.app_context():
        with pytest.raises(
            PayloadError, match=r"not test_valid_use\.bool .*pass value\.tolist\(\)"
        ):
            switch.enqueue(Imitation())  # type: ignore[arg-type]
        moment = pytz.timezone("Europe/Berlin").localize(datetime(2027, 6, 1))
        with pytest.raises(PayloadError, match=r"it\.tzinfo is of type pytz"):
            encode_value(moment, CODECS, what="it", limit=1000)
        encode_value(moment.astimezone(ZoneInfo("Europe/Berlin")), CODECS, what="it", limit=1000)


@pytest.mark.parametrize("raises", [True, False])
def test_the_inline_engine_raises_what_a_job_raised_if_asked(raises: bool) -> None:
    app = Flask(__name__)
    app.config.update(OFFLOAD_ENGINE="inline", OFFLOAD_INLINE_RAISE_ERRORS=raises)
    offload = Offload(app)
    ran: list[str] = []

    @offload.task(max_attempts=2, backoff=0)
    def run(kind: str) -> object:
        ran.append(kind)
        if kind == "always" or ran == ["once"]:
            raise ZeroDivisionError("by the job")
        return object() if kind == "result" else None

    with app.app_context():
        assert run.enqueue("once").status == "SUCCESSFUL"
        for kind, error in (("always", ZeroDivisionError), ("result", PayloadError)):
            if raises:
                with pytest.raises(error):
                    run.enqueue(kind)
            else:
                assert run.enqueue(kind).status == "FAILED"
        calls = [run.call(kind) for kind in ("always", "good")]
        with pytest.raises(ZeroDivisionError) if raises else nullcontext():
            offload.enqueue_many(calls)
    assert ran == ["once", "once", "always", "always", "result", "always", "always", "good"]


def test_jobs_follow_a_clock_that_was_frozen_after_the_app_was_made(app: Flask) -> None:
    freezegun = pytest.importorskip("freezegun")

    @offload_of(app).task
    def now() -> datetime:
        return datetime.now(UTC)

    with app.app_context():
        with freezegun.freeze_time("2031-02-03 04:05:06"):
            later = datetime(2031, 2, 3, 5, tzinfo=UTC)
            job = now.using(run_after=later).enqueue()
            assert drain(app) == []
        with freezegun.freeze_time("2031-02-03 05:00:01"):
            assert [done.id for done in drain(app)] == [job.id]
            assert job.refresh().return_value == datetime.now(UTC)


def test_a_parameter_may_have_any_name(app: Flask) -> None:
    @offload_of(app).task
    def names(self: int, args: int, kwargs: int, task: int, context: int, host: int) -> list[int]:
        return [self, args, kwargs, task, context, host]

    given = {"self": 1, "args": 2, "kwargs": 3, "task": 4, "context": 5, "host": 6}
    with app.app_context():
        assert names(**given) == [1, 2, 3, 4, 5, 6]
        jobs = [names.enqueue(**given), *offload_of(app).enqueue_many([names.call(**given)])]
        drain(app)
        assert [job.refresh().return_value for job in jobs] == [[1, 2, 3, 4, 5, 6]] * 2


def test_rows_may_be_passed_once_they_are_committed(app: Flask) -> None:
    db = SQLAlchemy(app)
    offload = offload_of(app)

    class Person(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)
        name = db.Column(db.String)

    import sys

    sys.modules[__name__].Person = Person  # type: ignore[attr-defined]
    Person.__qualname__ = "Person"

    @offload.task
    def greet(person: Any) -> str:
        return f"hello {person.name}"

    with app.app_context():
        db.create_all()

        def on_commit(sender: Flask, changes: list[tuple[Any, str]]) -> None:
            for row, _ in changes:
                greet.enqueue(row)

        models_committed.connect(on_commit, app)
        person = Person(name="ann")
        event.listen(db.session, "after_commit", lambda session: greet.enqueue(person), once=True)
        db.session.add(person)
        db.session.flush()
        with pytest.raises(PayloadError, match="flushed but not committed"):
            greet.enqueue(person)
        db.session.commit()
        assert [job.return_value for job in drain(app)] == ["hello ann"] * 2
        db.session.remove()
        db.engine.dispose()


def test_names_of_other_libraries_have_a_sentence(app: Flask) -> None:
    offload = offload_of(app)

    @offload.task
    def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(
        OptionError, match=r"using\(\) does not take countdown=, unique=.*run_after"
    ):
        add.using(countdown=3, unique=True)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match=r"no apply_async: write task\.using"):
        add.apply_async((1, 2), countdown=3)
    for name, instead in {
        "send": r"task\.enqueue\(",  # Dramatiq, Celery's send_task
        "queue": r"task\.enqueue\(",
        "enqueue_in": r"run_after=",
        "s": r"enqueue_many",
        "call_local": r"task\(…\)",
        "typo": r"'typo'$",
    }.items():
        with pytest.raises(AttributeError, match=rf"the task '.*add' has no attribute.*{instead}"):
            getattr(add, name)
        assert not hasattr(add, name)
    with pytest.raises(OptionError, match=r"function\.enqueue"):
        offload.enqueue(add, 1, 2)
    with pytest.raises(NotInitialized, match=r"with app\.app_context"):
        add.enqueue(1, 2)
