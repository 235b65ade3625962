"""Whatever stands in the database: reading it gives a value or PayloadError, and runs nothing.

OFFLOAD_HOSTILE_EXAMPLES=2000 runs the long form.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_offload.errors import PayloadError
from flask_offload.payload.calls import CallSpec, Codecs, decode_value, encode_value
from payload_types import Color, Money, Pair, Point, Price, Secret

EXAMPLES = int(os.environ.get("OFFLOAD_HOSTILE_EXAMPLES", "100"))
CODECS = Codecs()
CODECS.register(Money, lambda money: money.cents, Money)


def anything(*args: Any, **kwargs: Any) -> None:
    pass


SPEC = CallSpec(anything, "anything", CODECS)


def read(data: bytes | str) -> None:
    """Decode as a value and as arguments; anything but PayloadError is a failure."""
    with suppress(PayloadError):
        SPEC.decode(data)
    with suppress(PayloadError):
        decode_value(data, CODECS)


NAMES = [
    "payload_types:Point",
    "payload_types:Color",
    "payload_types:Access",
    "payload_types:Pair",
    "payload_types:Price",
    "payload_types:Secret",
    "payload_types:Money",
    "payload_types:Outer.Inner",
    "payload_types:Point.__init__",
    "payload_types:__builtins__",
    "payload_types:T",
    "builtins:eval",
    "builtins:tuple",
    "os:system",
    "subprocess:Popen",
    "antigravity:x",
    "flask:request.form",
    "flask:current_app.config",
    "",
    ":",
    "a" * 300,
]
TAGS = sorted(CODECS.unpackers)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([*NAMES, "RED", "x", "aGk=", "1e999999999", "9" * 5000, "2026-01-01"])
    | st.sampled_from(["Europe/Berlin", "../../etc/passwd", "Europe", "/", "\0", "nan", "NaN123"])
    | st.sampled_from([10**18, 2**62, -1, 0, 1e308])
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$", "x", "y"]), inner, max_size=3)
        | st.tuples(st.sampled_from(TAGS) | scalars, st.lists(inner, max_size=4)).map(
            lambda pair: {"$": [pair[0], *pair[1]]}
        )
        | st.tuples(
            st.sampled_from(["enum", "dataclass", "namedtuple", "struct", "row", "codec", "mail"]),
            st.sampled_from(NAMES),
            st.dictionaries(st.sampled_from(["x", "y", "left", "amount", "__class__"]), inner)
            | inner,
        ).map(lambda parts: {"$": [*parts]})
    ),
    max_leaves=10,
)


@settings(max_examples=EXAMPLES * 5, deadline=None)
@given(documents)
def test_forged_documents(document: Any) -> None:
    before = {*sys.modules}
    read(msgspec.json.encode(document))
    read(msgspec.json.encode([[document], {"a": document}]))
    assert "antigravity" not in {*sys.modules} - before


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes(data: bytes | str) -> None:
    read(data)


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(st.data())
def test_damaged_payloads(data: st.DataObject) -> None:
    value = [Point(1, {2}), Color.RED, Pair(b"x"), {1: (2.5, 10**30)}, Money(3), Price(None)]  # type: ignore[arg-type]
    good = bytearray(encode_value(value, CODECS, what="it", limit=10_000))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(good) - 1))
        good[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read(bytes(good))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"$":["tuple",[' * 50_000,
        b'{"$":["tuple",[' * 200 + b"]]}" * 200,
        b"[" * 66 + b"]" * 66,
        b"1" * 1_000_000,
        b"-" + b"9" * 1_000_000,
        b"1e999999999",
        b'{"$":["int","' + b"g" * 10 + b'"]}',
        b'{"$":["Decimal","1e' + b"9" * 1000 + b'"]}',
        b'{"$":["timedelta",99999999999,0,0]}',
        b'{"$":["timedelta",1e308,1e308,1e308]}',
        b'{"$":["datetime","99999-01-01"]}',
        b'{"$":["datetime","2026-01-01",1]}',
        b'{"$":["ZoneInfo","../../../etc/passwd"]}',
        b'{"$":["ZoneInfo","Europe"]}',
        b'{"$":["ZoneInfo",["x"]]}',
        b'{"$":["bytes","not base64!"]}',
        b'{"$":["set",[[1]]]}',
        b'{"$":["dict",[[[1],2]]]}',
        b'{"$":["dict",[1]]}',
        b'{"$":["set"]}',
        b'{"$":["set",[],[],[]]}',
        b'{"$":["nonsense",1]}',
        b'{"$":[["set"],1]}',
        b'{"$":[]}',
        b'{"$":1}',
        b'{"$":["set",[]],"b":1}',
        b'{"$":["enum","payload_types:Color","PURPLE"]}',
        b'{"$":["enum","payload_types:Color",["RED"]]}',
        b'{"$":["enum","payload_types:Access",4096]}',
        b'{"$":["dataclass","payload_types:Point",[]]}',
        b'{"$":["dataclass","payload_types:Color",{"x":1}]}',
        b'{"$":["namedtuple","payload_types:Point",{"x":1}]}',
        b'{"$":["struct","payload_types:Price",{"unknown":1}]}',
        b'{"$":["codec","os:system","true"]}',
        b'{"$":["row","payload_types:Point",[1]]}',
        b'{"$":["mail","Mail",{}]}',
        b'{"$":["file","../../etc/passwd",null,null,[]]}',
        b'{"$":["file","' + b"0" * 32 + b'",null,null,[]]}',
        b'"\\ud800"',
        b'"\xff"',
        b"{",
        b"NaN",
    ],
    ids=lambda data: data[:40].decode(errors="replace"),
)
def test_each_kind_of_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(PayloadError, match=r"^the stored value can't be read: "):
        decode_value(data, CODECS)
    with pytest.raises(PayloadError, match=r"^task 'anything': the stored arguments can't be read"):
        SPEC.decode(b"[[" + data + b"],{}]")


@pytest.mark.parametrize("data", [b"", b"[]", b"[[],{},1]", b"[{},[]]", b"{}", b"null", b"[[],[]]"])
def test_arguments_of_another_shape(data: bytes) -> None:
    with pytest.raises(PayloadError, match="the stored arguments can't be read"):
        SPEC.decode(data)


def test_a_text_with_a_lone_surrogate_is_no_json() -> None:
    with pytest.raises(PayloadError):
        decode_value('"\ud800"', CODECS)


@pytest.mark.parametrize(
    "name",
    [
        "antigravity:Point",
        "os:system",
        "builtins:eval",
        "subprocess:Popen",
        "this:d",
        "sys:modules",
    ],
)
@pytest.mark.parametrize("kind", ["dataclass", "enum", "namedtuple", "struct", "row"])
def test_a_name_is_no_import_and_no_call(kind: str, name: str) -> None:
    before = {*sys.modules}
    data = json.dumps({"$": [kind, name, {"args": "true"}]})
    with pytest.raises(PayloadError, match="which no loaded module has, or which is of another"):
        decode_value(data, CODECS)
    assert not {"antigravity", "this"} & ({*sys.modules} - before)


def test_no_code_of_a_class_runs_to_build_it() -> None:
    data = b'{"$":["dataclass","payload_types:Secret",{"password":"p","hashed":"h","runs":[]}]}'
    secret = decode_value(data, CODECS)
    assert type(secret) is Secret
    assert secret.runs == []
    assert (secret.password, secret.hashed) == ("p", "h")


def test_forged_attributes_stay_data() -> None:
    data = b'{"$":["dataclass","payload_types:Point",{"x":1,"__class__":"os:system","__eq__":1}]}'
    point = decode_value(data, CODECS)
    assert type(point) is Point
    assert point == Point(1)


def test_a_payload_near_the_end_of_the_stack() -> None:
    data = b'[[{"$":["tuple",[' * 30 + b"1" + b"]]},1],{}]"

    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            read(data)
            encode()

    def encode() -> None:
        value: Any = 1
        for _ in range(60):
            value = [(value,)] if isinstance(value, tuple) else (value,)
        with suppress(PayloadError):
            encode_value(value, CODECS, what="it", limit=10_000)

    depth = len(inspect.stack())
    for room in (150, 200, 300):
        deeper(sys.getrecursionlimit() - depth - room)
