"""What goes in comes out: same value, same type, whatever lies in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_offload.errors import PayloadError, PayloadTooLarge
from flask_offload.payload.calls import (
    MAX_BYTES,
    CallSpec,
    Codecs,
    decode_value,
    encode_value,
)
from payload_types import (
    Access,
    Bits,
    Box,
    Child,
    Color,
    Frozen,
    Level,
    Money,
    Movie,
    OldPair,
    Outer,
    Pair,
    Point,
    Price,
    Secret,
    Shouted,
    Tag,
    Word,
)

CODECS = Codecs()


def there_and_back(value: Any, codecs: Codecs = CODECS) -> Any:
    data = encode_value(value, codecs, what="the value", limit=MAX_BYTES)
    msgspec.json.decode(data)  # is JSON
    return decode_value(data, codecs)


def same(one: Any, other: Any) -> bool:
    """Equal in every respect: types at every level, order, -0.0, NaN, fold and time zone."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, Point | Box):
        return same(list(vars(one).items()), list(vars(other).items()))
    if isinstance(one, float | Decimal | datetime | time):
        return repr(one) == repr(other)
    return bool(one == other)


def moments() -> st.SearchStrategy[Any]:
    minutes = st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
    named = minutes.map(lambda zone: timezone(zone.utcoffset(None), "here"))
    zones = st.none() | st.just(UTC) | minutes | named | st.timezones()
    return st.datetimes(timezones=zones) | st.times(timezones=zones)


hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | moments()
    | st.sampled_from([*Color, *Level, *Word, Access.READ | Access.WRITE, Bits(5), Bits(8)])
    | st.sampled_from([Path("a/b"), PurePosixPath("/x"), PureWindowsPath("C:\\y"), Tag("t")]),
    lambda inner: (
        st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.builds(Pair, inner, inner)
    ),
    max_leaves=4,
)
values = st.recursive(
    hashables | st.decimals(allow_nan=True),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashables | st.sampled_from(["$", "$$"]), inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4).map(OrderedDict)
        | st.sets(hashables, max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Box, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(values)
def test_any_value_comes_back_the_same(value: Any) -> None:
    assert same(there_and_back(value), value)


@settings(max_examples=200, deadline=None)
@given(values)
def test_the_limit_is_exact_for_any_value(value: Any) -> None:
    data = encode_value(value, CODECS, what="it", limit=MAX_BYTES)
    assert encode_value(value, CODECS, what="it", limit=len(data)) == data
    with pytest.raises(PayloadTooLarge):
        encode_value(value, CODECS, what="it", limit=len(data) - 1)


def anything(*args: Any, **kwargs: Any) -> None:
    pass


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=3))
def test_any_call_comes_back_the_same(args: list[Any], kwargs: dict[str, Any]) -> None:
    spec = CallSpec(anything, "anything", CODECS)
    encoded = spec.encode(tuple(args), kwargs, limit=MAX_BYTES)
    assert same(spec.decode(encoded.data), (tuple(args), kwargs))
    assert same(spec.decode(encoded.data.decode()), (tuple(args), kwargs))


CLASSES_OF_DATA = [
    Point(1, [Point(2, Pair(3))]),
    Child(1, 2, 3.5),
    Frozen("n", (1, 2)),
    Box({1, 2}),
    Outer.Inner(3),
    Color.RED,
    Color.CRIMSON,
    Level.HIGH,
    Word.YES,
    Access.READ,
    Access.READ | Access.WRITE,
    Access(0),
    Bits(12),
    Pair("l"),
    OldPair(1, 2),
    Price(Decimal("1.50")),
    Price(Decimal("2"), "USD", "n"),
    Tag("t"),
    Movie(title="x", year=1999),
]


@pytest.mark.parametrize("value", CLASSES_OF_DATA, ids=repr)
def test_classes_of_data(value: Any) -> None:
    back = there_and_back(value)
    assert type(back) is type(value)
    assert back == value
    assert there_and_back([value, {"k": value}]) == [value, {"k": value}]


def test_members_of_enums_stay_the_very_same() -> None:
    assert there_and_back(Color.CRIMSON) is Color.RED
    assert there_and_back({Level.LOW: 1, 2: Word.YES}) == {Level.LOW: 1, 2: Word.YES}


def test_a_dataclass_is_not_constructed_twice() -> None:
    secret = Secret("word", "salt")
    assert secret.length == 9
    back = there_and_back(secret)
    assert back == secret
    assert back.runs == ["salt"]
    assert (back.password, back.hashed, back.remark) == ("****", "salt:word", "not a field")
    assert "length" not in vars(back)  # a cache is not carried
    assert back.length == 9


def test_a_struct_that_changes_itself_when_constructed() -> None:
    assert there_and_back(Shouted("hey")).text == "hey!"


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 10, 25, 2, 30, fold=1),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=1, microseconds=1))),
        datetime.max,
        time(23, 59, 59, 999_999, tzinfo=ZoneInfo("Asia/Kathmandu")),
        time(1, fold=1),
    ],
    ids=repr,
)
def test_moments_keep_zone_and_fold(moment: Any) -> None:
    back = there_and_back(moment)
    assert repr(back) == repr(moment)
    assert type(back.tzinfo) is type(moment.tzinfo)
    assert back.tzname() == moment.tzname()


def test_numbers_of_any_size() -> None:
    for number in (2**63 - 1, 2**63, -(2**63), 2**64, 10**5000, -(10**5000)):
        assert there_and_back(number) == number
        assert there_and_back([number]) == [number]
    assert str(there_and_back(-0.0)) == "-0.0"
    assert there_and_back([float("inf"), 1.0])[0] == float("inf")
    assert type(there_and_back(1.0)) is float
    assert there_and_back([True, 1, 1.0]) == [True, 1, 1.0]
    assert list(map(type, there_and_back([True, 1, 1.0]))) == [bool, int, float]


def test_a_file_name_that_is_no_text() -> None:
    name = PosixPath("a\udcff")  # as os.listdir() gives the byte 0xff
    assert there_and_back(name) == name


def test_a_dict_that_looks_like_a_tag_stays_a_dict() -> None:
    for forged in (
        {"$": ["bytes", "aGk="]},
        {"$": 1},
        {"$": ["tuple", []], "more": 1},
        {"a": {"$": ["row", "x", [1]]}},
        {"$": {"$": {"$": ["set", [1]]}}},
        OrderedDict({"$": ["bytes", "aGk="]}),
        Point({"$": ["bytes", "aGk="]}),
    ):
        assert same(there_and_back(forged), forged)


def test_keyword_names_that_look_like_a_tag() -> None:
    spec = CallSpec(anything, "anything", CODECS)
    call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {"$": ["bytes", "aGk="], "é": 1})
    assert spec.decode(spec.encode(*call, limit=1000).data) == call


def test_arguments_are_as_they_were_at_the_enqueue() -> None:
    spec = CallSpec(anything, "anything", CODECS)
    rows: list[Any] = [1]
    nested = {"rows": rows, "set": {1}}
    encoded = spec.encode((rows, nested), {}, limit=1000)
    rows.append(2)
    nested["set"].add(2)  # type: ignore[attr-defined]
    assert spec.decode(encoded.data) == (([1], {"rows": [1], "set": {1}}), {})


# --- own codecs --------------------------------------------------------------------------------


def test_own_codec() -> None:
    codecs = Codecs()
    codecs.register(Money, lambda money: money.cents, Money)
    value = [Money(3), {Money(4): Money(5)}, Point(Money(6))]
    assert there_and_back(value, codecs) == value


def test_own_codec_goes_before_what_is_built_in() -> None:
    codecs = Codecs()
    assert there_and_back(Point(1), codecs) == Point(1)
    codecs.register(Point, lambda point: (point.x, point.y), lambda state: Point(*state))
    data = encode_value(Point(1, {2}), codecs, what="it", limit=1000)
    assert b'"codec"' in data
    assert decode_value(data, codecs) == Point(1, {2})


def test_codecs_of_one_offload_are_not_those_of_another() -> None:
    codecs = Codecs()
    codecs.register(Money, lambda money: money.cents, Money)
    data = encode_value(Money(3), codecs, what="it", limit=1000)
    with pytest.raises(
        PayloadError, match=r"needs the codec 'payload_types:Money'.*offload\.codec"
    ):
        decode_value(data, Codecs())
    with pytest.raises(PayloadError, match="register a codec"):
        encode_value(Money(3), Codecs(), what="it", limit=1000)


def test_a_codec_with_a_name_survives_a_move_of_the_class() -> None:
    before, after = Codecs(), Codecs()
    before.register(Money, lambda money: money.cents, Money, name="money")
    after.register(Frozen, lambda f: f.name, lambda cents: Frozen(str(cents)), name="money")
    data = encode_value(Money(3), before, what="it", limit=1000)
    assert decode_value(data, after) == Frozen("3")


def test_misuse_of_codecs() -> None:
    codecs = Codecs()
    with pytest.raises(PayloadError, match="datetime needs no codec"):
        codecs.register(datetime, str, datetime.fromisoformat)
    with pytest.raises(PayloadError, match="str needs no codec"):
        codecs.register(str, str, str)
    codecs.register(Money, lambda money: money.cents, Money, name="m")
    codecs.register(Money, lambda money: money.cents, Money, name="m")  # a reload
    with pytest.raises(PayloadError, match="'m' belongs to Money: choose another name"):
        codecs.register(Point, lambda point: point.x, Point, name="m")


def test_a_codec_that_fails() -> None:
    codecs = Codecs()
    codecs.register(Money, lambda money: 1 // money.cents, lambda cents: Money(1 // (cents - 1)))
    with pytest.raises(PayloadError, match=r"it\[1\] can't be encoded.*ZeroDivisionError") as info:
        encode_value([1, Money(0)], codecs, what="it", limit=1000)
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    data = encode_value(Money(1), codecs, what="it", limit=1000)
    with pytest.raises(PayloadError, match="can't decode it: ZeroDivisionError"):
        decode_value(data, codecs)


# --- other processes ---------------------------------------------------------------------------

SCRIPT = """
import sys
from dataclasses import dataclass
from flask_offload.payload.calls import Codecs, decode_value, encode_value

@dataclass
class Job:
    n: int

if __name__ == "__main__":
    data = encode_value([Job(1), {"a", "b", "c", "d"}], Codecs(), what="it", limit=1000)
    assert decode_value(data, Codecs())[0] == Job(1)
    sys.stdout.buffer.write(data)
"""


def run(*command: str, cwd: Path, seed: str = "0") -> bytes:
    path = os.pathsep.join([str(cwd), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.processes
def test_a_class_of_the_script_is_found_where_the_script_is_a_module(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(SCRIPT)
    reader = (
        "import shop.app; from flask_offload.payload.calls import Codecs, decode_value;"
        "import sys; value = decode_value(sys.argv[1], Codecs());"
        "assert value[0] == shop.app.Job(1), value"
    )
    for command in (["shop/app.py"], ["-m", "shop.app"]):
        data = run(*command, cwd=tmp_path)
        assert b'"shop.app:Job"' in data
        run("-c", reader, data.decode(), cwd=tmp_path)


@pytest.mark.processes
def test_equal_values_give_equal_json_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SCRIPT)
    assert len({run("app.py", cwd=tmp_path, seed=str(seed)) for seed in range(3)}) == 1


@pytest.mark.processes
def test_nothing_is_imported_that_the_app_does_not_use(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        SCRIPT + "    assert not {'sqlalchemy', 'flask_mail'} & {*sys.modules}\n"
    )
    run("app.py", cwd=tmp_path)


def test_a_class_may_gain_and_lose_fields_while_jobs_wait() -> None:
    old = b'{"$":["%b","payload_types:%b",{%b}]}'
    assert decode_value(old % (b"dataclass", b"Point", b'"x":1'), CODECS) == Point(1, 0)
    assert decode_value(old % (b"dataclass", b"Point", b'"x":1,"gone":2'), CODECS) == Point(1, 0)
    assert decode_value(old % (b"namedtuple", b"Pair", b'"left":1,"gone":2'), CODECS) == Pair(1)
    assert decode_value(old % (b"struct", b"Tag", b'"tag_name":"t","gone":2'), CODECS) == Tag("t")
    for kind, name in ((b"dataclass", b"Point"), (b"namedtuple", b"Pair"), (b"struct", b"Tag")):
        with pytest.raises(PayloadError, match=r"x|left|tag_name"):
            decode_value(old % (kind, name, b""), CODECS)


def test_dates_uuids_and_the_rest() -> None:
    value = [date(2026, 1, 2), UUID(int=5), timedelta(-1, 2, 3), b"\x00\xff", frozenset({1})]
    assert same(there_and_back(value), value)
