"""What can't be encoded is refused at the enqueue, in words that help."""

from __future__ import annotations

import io
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from flask import Flask, current_app
from markupsafe import Markup

from flask_offload.errors import PayloadError, PayloadTooLarge
from flask_offload.payload.calls import (
    MAX_BYTES,
    CallSpec,
    Codecs,
    decode_value,
    encode_value,
)
from payload_types import Color, DearMoney, Money, Pair, Point, UserId, Words

CODECS = Codecs()
LIMIT = 1024 * 1024


def anything(*args: Any, **kwargs: Any) -> None:
    pass


SPEC = CallSpec(anything, "shop.send", CODECS)


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(PayloadError) as info:
        SPEC.encode(args, kwargs, limit=LIMIT)
    return str(info.value)


class Plain:
    pass


class Zone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, moment: datetime | None) -> str:
        return "here"


class FrozenClock(datetime):
    pass


class TallPair(Pair):
    """A named tuple with room for more."""


def make_generator() -> Any:
    yield 1


async def coroutine() -> None:
    pass


class Stale(Enum):
    A = 1


def undeclared_member() -> Stale:
    member = object.__new__(Stale)
    member._name_, member._value_ = "B", 2
    return member


def extended_tuple() -> TallPair:
    pair = TallPair(1)
    pair.more = 2  # type: ignore[attr-defined]
    return pair


def keyless_zone() -> ZoneInfo:
    with files("tzdata.zoneinfo").joinpath("UTC").open("rb") as file:
        return ZoneInfo.from_file(file)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            Plain,
            "of type Plain, which can't be encoded: pass an id or plain values, or"
            " register a codec with",
        ),
        (Plain, "with offload.codec(Plain, encode, decode)"),
        (lambda: UserId(3), "is of type UserId, which can't be encoded: pass int(value)"),
        (lambda: Markup("<b>"), "is of type Markup, which can't be encoded: pass str(value)"),
        (
            lambda: defaultdict(int),
            "is of type defaultdict, which can't be encoded: pass dict(value)",
        ),
        (lambda: Counter("aab"), "is of type Counter, which can't be encoded: pass dict(value)"),
        (lambda: FrozenClock(2026, 1, 1), "pass datetime.fromisoformat(value.isoformat())"),
        (lambda: DearMoney(1), "register a codec with offload.codec(DearMoney"),
        (make_generator, "is of type generator, which can't be encoded: pass list(value)"),
        (lambda: range(3), "pass list(value)"),
        (lambda: map(str, "ab"), "pass list(value)"),
        (lambda: deque([1]), "pass list(value)"),
        (lambda: bytearray(b"x"), "pass bytes(value)"),
        (lambda: memoryview(b"x"), "pass bytes(value)"),
        (lambda: io.BytesIO(b"x"), "pass the file's path or its bytes"),
        (lambda: current_app, "pass the value behind the proxy, or better its id"),
        (lambda: Plain, "is of type type, which can't be encoded"),
        (lambda: len, "which can't be encoded"),
        (lambda: ValueError("x"), "is of type ValueError, which can't be encoded"),
        (lambda: datetime(2026, 1, 1, tzinfo=Zone()), "is of type Zone, which can't be encoded"),
        (keyless_zone, "a ZoneInfo without a key"),
        (undeclared_member, "is not a declared member of Stale"),
        (extended_tuple, "a named tuple that stores more than its fields"),
        (lambda: Words("title"), "a dataclass that stores more than its fields"),
    ],
)
def test_what_it_is_and_what_to_do(make: Callable[[], Any], says: str) -> None:
    text = refusal(make())
    assert text.startswith("task 'shop.send': argument '*args[0]'")
    assert says in text


def test_a_coroutine_is_refused() -> None:
    unfinished = coroutine()
    assert "is of type coroutine, which can't be encoded" in refusal(unfinished)
    unfinished.close()


def test_the_proxy_of_an_app_is_refused_inside_its_context_too() -> None:
    with Flask(__name__).app_context():
        assert "behind the proxy" in refusal(current_app)


def test_classes_that_no_worker_could_find() -> None:
    @dataclass
    class Local:
        x: int

    class LocalEnum(Enum):
        A = 1

    class LocalPair(NamedTuple):
        x: int

    for value in (Local(1), LocalEnum.A, LocalPair(1)):
        text = refusal(value)
        assert "can't be found again by its name: define it at the top level of a module" in text


def test_a_class_that_another_one_replaced_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import payload_types

    replaced = type("Pair", (Pair,), {"__module__": "payload_types", "__qualname__": "Pair"})
    assert "can't be found again" in refusal(replaced(1))
    monkeypatch.setattr(payload_types, "Pair", replaced)
    data = encode_value(replaced(1), CODECS, what="it", limit=LIMIT)
    assert type(decode_value(data, CODECS)) is replaced


def test_the_path_to_what_is_refused() -> None:
    value = {"rows": [1, (2, Point(3, {Plain}))]}
    text = refusal(1, order=value)
    assert text.startswith("task 'shop.send': argument 'order'['rows'][1][1].y[0] is of type type")
    assert "'order'[(1, 2)] is of type Plain" in refusal(order={(1, 2): Plain()})
    assert "'order'['$'] is of type Plain" in refusal(order={"$": Plain()})
    assert "'order'['k'] is of type Plain" in refusal(order=OrderedDict(k=Plain()))
    assert "'order'.left is of type Plain" in refusal(order=Pair(Plain()))


@pytest.mark.parametrize(
    "value", ["a\ud800b", ["\udfff"], {"\ud800": 1}, {"k": {"\ud800"}}, Point("\ud800")]
)
def test_half_a_character(value: Any) -> None:
    text = refusal(1, name=value)
    assert text.startswith(
        "task 'shop.send': argument 'name' holds text with the lone surrogate U+D"
    )
    assert "errors='replace'" in text
    with pytest.raises(PayloadError, match=r"^the result holds text with the lone surrogate"):
        encode_value(value, CODECS, what="the result", limit=LIMIT)


def test_half_a_character_in_a_keyword() -> None:
    assert "a keyword holds text with the lone surrogate U+D800" in refusal(**{"\ud800": 1})


def test_what_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["a"] = [{"b": ring}]
    point = Point(1)
    point.y = (point,)
    for value in (loop, ring, point):
        assert "nested more than 64 levels deep, or contains itself" in refusal(value)


def nested(levels: int) -> Any:
    value: Any = 0
    for level in range(levels):
        value = (value,) if level % 2 else {1: value}
    return value


def test_depth_is_bounded_and_the_bound_is_accepted() -> None:
    deepest = nested(64)
    data = encode_value(deepest, CODECS, what="it", limit=LIMIT)
    assert decode_value(data, CODECS) == deepest
    with pytest.raises(PayloadError, match="nested more than 64 levels"):
        encode_value(nested(65), CODECS, what="it", limit=LIMIT)
    assert SPEC.decode(SPEC.encode((deepest,), {}, limit=LIMIT).data) == ((deepest,), {})


def test_a_small_value_that_would_become_enormous() -> None:
    bomb: Any = "x" * 100
    for _ in range(60):
        bomb = [bomb, bomb]
    with pytest.raises(PayloadTooLarge, match=r"argument 'b' goes beyond the limit: more than"):
        SPEC.encode((), {"a": 1, "b": bomb}, limit=10_000)
    big = b"x" * 100_000
    number = Decimal("1" * 100_000)
    for repeated in (big, number, 16**100_000, Path("x" * 5000), Color.RED, Pair(1), (1,)):
        with pytest.raises(PayloadTooLarge):
            SPEC.encode(([repeated] * 1_000_000,), {}, limit=10_000)


# --- size --------------------------------------------------------------------------------------


def test_the_limit_is_exact() -> None:
    for value in ("x" * 100, ["x" * 50, 1, 2.5, None], {"a": b"x" * 30, "b": (1,)}, 10**100):
        size = len(SPEC.encode((value,), {}, limit=LIMIT).data)
        assert len(SPEC.encode((value,), {}, limit=size).data) == size
        with pytest.raises(PayloadTooLarge):
            SPEC.encode((value,), {}, limit=size - 1)
        size = len(encode_value(value, CODECS, what="it", limit=LIMIT))
        assert len(encode_value(value, CODECS, what="it", limit=size)) == size
        with pytest.raises(PayloadTooLarge):
            encode_value(value, CODECS, what="it", limit=size - 1)


def test_too_large_names_the_largest_argument_and_the_remedy() -> None:
    with pytest.raises(PayloadTooLarge) as info:
        SPEC.encode((1,), {"rows": "x" * 3000, "other": "y" * 100}, limit=2048)
    assert str(info.value) == (
        "task 'shop.send': the arguments take 3.055 KiB, 'rows' most of it (2.932 KiB); more than"
        " 2 KiB are not accepted: pass an id or a file instead, or raise OFFLOAD_MAX_PAYLOAD"
    )
    with pytest.raises(PayloadTooLarge, match=r"^the result takes 3\.\d+ KiB; more than 2 KiB"):
        encode_value("\0" * 600, CODECS, what="the result", limit=2048)


def test_control_characters_count_as_they_are_written() -> None:
    with pytest.raises(PayloadTooLarge):  # six bytes each
        SPEC.encode((["\0" * 300],), {}, limit=1000)


def test_more_than_anybody_may_store_is_not_read() -> None:
    with pytest.raises(PayloadTooLarge, match="more than 64 MiB"):
        decode_value(b" " * (MAX_BYTES + 1), CODECS)


def test_money_is_refused_until_it_is_taught() -> None:
    codecs = Codecs()
    with pytest.raises(PayloadError):
        encode_value(Money(1), codecs, what="it", limit=LIMIT)
    codecs.register(Money, lambda money: money.cents, Money)
    with pytest.raises(PayloadError):  # a subclass would lose its class
        encode_value(DearMoney(1), codecs, what="it", limit=LIMIT)
    assert encode_value(Money(1), codecs, what="it", limit=LIMIT)
