"""A wrong call fails at the enqueue: against the signature, and against the annotations."""

from __future__ import annotations

import functools
import statistics
import timeit
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from inspect import signature
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NewType,
    Optional,
    ParamSpec,
    Protocol,
    Required,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import msgspec
import pytest
from typing_extensions import TypeAliasType

from flask_offload.errors import PayloadError
from flask_offload.payload.calls import CallSpec, Codecs
from payload_types import Box, Child, Color, Movie, Pair, Point, UserId

if TYPE_CHECKING:
    from nowhere import Nothing  # type: ignore[import-not-found]

CODECS = Codecs()
LIMIT = 1024 * 1024
T = TypeVar("T")
P = ParamSpec("P")
Slug = NewType("Slug", str)


def spec(func: Callable[..., Any], name: str = "shop.send") -> CallSpec:
    return CallSpec(func, name, CODECS)


def wrong(func: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PayloadError) as info:
        spec(func).encode(args, kwargs, limit=LIMIT)
    return str(info.value)


# --- the signature -----------------------------------------------------------------------------


def send(user_id: int, template: str = "welcome", *, urgent: bool = False) -> None:
    pass


def variadic(first: int, /, *rest: int, mode: str = "a", **options: float) -> None:
    pass


CALL = "Call it as send(user_id: 'int', template: 'str' = 'welcome', *, urgent: 'bool' = False)"


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing a required argument: 'user_id'"),
        ((1, "a", True), {}, "too many positional arguments"),
        ((1,), {"user_id": 2}, "multiple values for argument 'user_id'"),
        ((1,), {"countdown": 5}, "got an unexpected keyword argument 'countdown'"),
    ],
)
def test_a_call_of_the_wrong_shape(
    args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    task = spec(send)
    for _ in range(2):  # the answer is not remembered wrongly
        for method in (
            lambda: task.encode(args, kwargs, limit=LIMIT),
            lambda: task.bind(args, kwargs),
        ):
            with pytest.raises(PayloadError) as info:
                method()
            assert f"task 'shop.send' can't be called like this: {says}" in str(info.value)
            assert CALL in str(info.value)
            assert ("using(…)" in str(info.value)) is ("unexpected" in says)


def test_calls_of_many_shapes() -> None:
    task = spec(variadic)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1,), {}),
        ((1, 2, 3), {}),
        ((1,), {"mode": "b", "first": 2.5}),
        ((1, 2), {"mode": "b", "x": 1.0, "y": 2}),
        *(((1,), {f"o{n}": 1.0}) for n in range(200)),
    ]
    for _ in range(2):
        for args, kwargs in calls:
            assert task.decode(task.encode(args, kwargs, limit=LIMIT).data) == (args, kwargs)
    assert len(task._signature._slots_by_shape) <= 64  # keywords of a caller's choice don't pile up
    assert "argument '*rest[1]' must be int, not str" in wrong(variadic, 1, 2, "3")
    assert "argument 'x' must be float, not str" in wrong(variadic, 1, x="3")
    assert "argument 'rest' must be float, not str" in wrong(variadic, 1, rest="3")
    assert "argument 'mode' must be str, not int" in wrong(variadic, 1, mode=3)
    assert "missing a required" in wrong(variadic, mode="a")


def test_a_function_that_does_not_tell_its_signature() -> None:
    task = spec(max)
    assert task.decode(task.encode((1, 2), {"key": None}, limit=LIMIT).data) == (
        (1, 2),
        {"key": None},
    )


def test_wrapped_partial_and_bound_functions() -> None:
    @functools.wraps(send)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        pass

    class Mailer:
        def post(self, user_id: int) -> None:
            pass

    assert "must be int" in wrong(wrapped, "1")
    assert "must be str" in wrong(functools.partial(send, 1), 2)
    assert "must be int" in wrong(Mailer().post, "1")
    assert "too many" in wrong(Mailer().post, 1, 2)


def test_bind_gives_every_parameter() -> None:
    assert spec(send).bind((7,), {"urgent": True}) == {
        "user_id": 7,
        "template": "welcome",
        "urgent": True,
    }
    assert spec(variadic).bind((1, 2), {"x": 1.0}) == {
        "first": 1,
        "rest": (2,),
        "mode": "a",
        "options": {"x": 1.0},
    }


def test_fingerprints_tell_calls_apart_but_not_ways_to_write_them() -> None:
    def task(a: Any, b: Any = 2, **more: Any) -> None:
        pass

    print_of = spec(task).fingerprint
    same = [((1,), {}), ((1, 2), {}), ((), {"b": 2, "a": 1}), ((1,), {"b": 2})]
    assert len({print_of(args, kwargs) for args, kwargs in same}) == 1
    assert print_of((1,), {"x": 1, "y": {"k": 1, "l": 2}}) == print_of(
        (), {"y": {"l": 2, "k": 1}, "a": 1, "x": 1}
    )
    different = [(1,), (True,), (1.0,), ("1",), (1, 3), ((1,),), ([1],), (None,), ({1},)]
    assert len({print_of(args, {}) for args in different}) == len(different)
    with pytest.raises(PayloadError, match=r"task 'shop\.send': argument 'a' is of type object"):
        print_of((object(),), {})
    with pytest.raises(PayloadError, match="argument 'a' holds text with the lone surrogate"):
        print_of(("\ud800",), {})


def test_a_job_that_no_longer_fits_the_task() -> None:
    data = spec(send).encode((1, "a"), {}, limit=LIMIT).data

    def send_without_template(user_id: int) -> None:
        pass

    with pytest.raises(PayloadError, match="too many positional arguments"):
        spec(send_without_template).decode(data)

    def send_with_language(user_id: int, template: str, language: str = "en") -> None:
        pass

    assert spec(send_with_language).decode(data) == ((1, "a"), {})


# --- annotations -------------------------------------------------------------------------------


class Row(TypedDict, total=False):
    key: Required[int]
    children: list[Row]
    label: str


@runtime_checkable
class Sized(Protocol):
    def __len__(self) -> int: ...


class Unchecked(Protocol):
    def quack(self) -> None: ...


def takes(annotation: Any) -> CallSpec:
    def task(value: Any) -> None:
        pass

    task.__annotations__["value"] = annotation
    return spec(task)


ANNOTATIONS: list[tuple[Any, list[Any], list[Any]]] = [
    (int, [1, True, 10**30, -(2**63)], ["1", 1.0, None, [1], b"1"]),
    (float, [1.0, 1, True, float("nan")], ["1", None, Decimal(1)]),
    (str, ["", "é"], [b"", 1, None]),
    (bool, [True, False], [1, 0, None, "True"]),
    (bytes, [b""], ["", 1]),
    (None, [None], [0, ""]),
    (int | None, [1, None], ["1", 1.5]),
    (Optional[int], [1, None], ["1"]),  # noqa: UP045 (spelt in the old way, too)
    (Union[int, str], [1, "a"], [1.5, None]),  # noqa: UP007
    (list[int], [[], [1, 2], [True]], [["1"], [1, None], (1,), {1}, 1]),
    (list, [[], ["a", 1]], [(1,), "a"]),
    (list[list[int]], [[[1]]], [[[1], ["a"]], [1]]),
    (list[int | None], [[1, None]], [[1, "a"]]),
    (list[int] | None, [None, [1]], [["a"], "a"]),
    (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, [("a", 1)]]),
    (dict[str, list[int]], [{"a": [1]}], [{"a": ["b"]}, {"a": 1}]),
    (Mapping[str, Any], [{"a": b""}], [{1: 1}, [1]]),
    (tuple[int, str], [(1, "a")], [(1,), (1, "a", 2), ("a", 1), [1, "a"]]),
    (tuple[int, ...], [(), (1, 2)], [("a",), [1]]),
    (tuple, [(), (1, "a")], [[1]]),
    (set[int], [set(), {1}], [{"a"}, [1]]),
    (frozenset[str], [frozenset("a")], [frozenset({1}), {"a"}]),  # a test's name has no order
    (Sequence[int], [[1], (1,)], [["a"], ("a",), 1, {1}]),
    (Sequence[str], [["a"], "abc"], [[1], 1]),
    (Iterable[int], [[1], (1,), {1}], [["a"], 1]),
    (Literal["a", 1], ["a", 1], ["b", True, 1.0, 2]),
    (Literal["a"] | None, ["a", None], ["b", 1]),
    (date, [date(2026, 1, 1), datetime(2026, 1, 1)], ["2026-01-01", 1]),
    (datetime, [datetime(2026, 1, 1)], [date(2026, 1, 1)]),
    (Path, [Path("x")], ["x"]),
    (Color, [Color.RED], ["red", 2]),
    (Point, [Point(1), Child(1)], [{"x": 1}, Pair(1), Point]),
    (Pair, [Pair(1)], [(1, 2)]),
    (Box[int], [Box(1)], [1]),
    (Annotated[int, "unit"], [1], ["1"]),
    (Annotated[list[int], msgspec.Meta(max_length=3)], [[1]], [["a"]]),
    (Slug, ["a"], [1]),
    (Sized, ["abc", [1]], [1, None]),
    (Movie, [{"title": "a"}, {"title": "a", "year": 1}], [{}, {"title": 1}, [], "a"]),
    (Movie, [], [{"title": "a", "year": "b"}]),
    (Row, [{"key": 1, "children": [{"key": 2}]}], [{}, {"key": 1, "children": [1]}]),
    (list[Row], [[{"key": 1}]], [[{"key": "a"}]]),
    ("int | None", [1, None], ["a"]),
    ("list[Point]", [[Point(1)]], [[1]]),
]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(annotation, value) for annotation, good, _ in ANNOTATIONS for value in good],
    ids=repr,
)
def test_what_fits_an_annotation(annotation: Any, value: Any) -> None:
    assert takes(annotation).encode((value,), {}, limit=LIMIT)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(annotation, value) for annotation, _, bad in ANNOTATIONS for value in bad],
    ids=repr,
)
def test_what_does_not_fit_an_annotation(annotation: Any, value: Any) -> None:
    task = takes(annotation)
    with pytest.raises(PayloadError, match=r"argument 'value'.* must be .*, not "):
        task.encode((value,), {}, limit=LIMIT)
    with pytest.raises(PayloadError, match=r"argument 'value'.* must be .*, not "):
        task.encode((), {"value": value}, limit=LIMIT)


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        object,
        T,
        list[T],  # type: ignore[valid-type]
        "P.args",
        Unchecked,
        Nothing if TYPE_CHECKING else "Nothing",
        "list[Nothing] | None",
        "not python",
        "1 / 0",
        42,
        tuple[int, *tuple[str, ...]],
        Union[int, T],  # noqa: UP007
    ],
    ids=repr,
)
def test_what_can_not_be_checked_is_ignored(annotation: Any) -> None:
    task = takes(annotation)
    value: Any
    for value in (1, "a", [1], (1, "a")):
        if annotation == list[T]:  # type: ignore[valid-type]
            value = [value]
        if str(annotation).startswith("tuple"):
            value = (value,)
        assert task.decode(task.encode((value,), {}, limit=LIMIT).data) == ((value,), {})


def test_one_annotation_that_can_not_be_resolved_spoils_no_other() -> None:
    def task(one: Nothing, two: int) -> None:
        pass

    assert spec(task).encode(("x", 1), {}, limit=LIMIT)
    assert "argument 'two' must be int" in wrong(task, "x", "y")


def test_annotations_are_resolved_when_the_task_is_first_used() -> None:
    def task(value: Later) -> None:
        pass

    checked = spec(task)
    globals()["Later"] = int
    try:
        with pytest.raises(PayloadError, match="must be int"):
            checked.encode(("a",), {}, limit=LIMIT)
    finally:
        del globals()["Later"]


if TYPE_CHECKING:
    Later = int


def test_a_default_of_none_allows_none() -> None:
    def task(limit: int = None) -> None:  # type: ignore[assignment]  # noqa: RUF013
        pass

    assert spec(task).encode((None,), {}, limit=LIMIT)
    assert "must be int" in wrong(task, "a")


def test_the_message_points_at_the_element_and_shows_it() -> None:
    def task(rows: list[dict[str, int]], pair: tuple[int, str] = (1, "a")) -> None:
        pass

    assert wrong(task, [{"a": 1}, {"b": "c"}]) == (
        "task 'shop.send': argument 'rows'[1]['b'] must be int, not str ('c'):"
        " pass int, or change the annotation"
    )
    assert "argument 'rows'[0] has a key that must be str, not int (3)" in wrong(task, [{3: 1}])
    assert "argument 'pair'[1] must be str, not int (2)" in wrong(task, [], (1, 2))
    assert len(wrong(task, "x" * 10_000)) < 300

    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "must be dict[str, int], not" in wrong(task, [Rude()])


def test_long_containers() -> None:
    def numbers(values: list[int]) -> None:
        pass

    def rows(values: list[list[int]]) -> None:
        pass

    # elements of a scalar type are all checked, however many there are
    assert "argument 'values'[200000] must be int" in wrong(numbers, [1] * 200_000 + ["a"])
    # what has to be looked into is looked into up to a bound
    assert "argument 'values'[900][0] must be int" in wrong(rows, [[1]] * 900 + [["a"]])
    assert spec(rows).encode(([[1]] * 5000 + [["a"]],), {}, limit=LIMIT)


def test_the_type_is_checked_before_the_way_to_carry_it() -> None:
    assert "must be int, not Point" in wrong(send, Point(1))
    assert "can't be encoded: pass int(value)" in wrong(send, UserId(1))


def test_values_of_promoted_types_fit_and_keep_their_type() -> None:
    def task(mapping: dict[str, int], items: Iterable[int]) -> None:
        pass

    ordered = OrderedDict(a=1)
    args, _ = spec(task).decode(spec(task).encode((ordered, {1}), {}, limit=LIMIT).data)
    assert type(args[0]) is OrderedDict
    assert "deque, which can't be encoded" in wrong(task, {}, deque([1]))


@dataclass
class Node:
    children: list[Node]


def test_a_class_that_refers_to_itself() -> None:
    def task(node: Node, rows: list[Row]) -> None:
        pass

    rows: list[Any] = [{"key": 1, "children": [{"key": 2, "children": [{"key": 3}]}]}]
    call = ((Node([Node([])]), rows), dict[str, Any]())
    assert spec(task).decode(spec(task).encode(*call, limit=LIMIT).data) == call


def test_named_and_recursive_aliases() -> None:
    name = TypeAliasType("name", str)
    tree = TypeAliasType("tree", "dict[str, tree] | int")  # type: ignore[misc]
    assert takes(name).encode(("a",), {}, limit=LIMIT)
    with pytest.raises(PayloadError, match="must be str"):
        takes(name).encode((1,), {}, limit=LIMIT)
    assert takes(list[tree]).encode(([1, {"a": {"b": 2}}],), {}, limit=LIMIT)


# --- speed -------------------------------------------------------------------------------------


def test_a_typical_enqueue_costs_less_than_binding_it_with_inspect() -> None:
    """The figure itself is in the documentation; this guards what makes it small."""
    task = spec(send)
    args, kwargs = (7, "abc"), {"urgent": True}
    data = task.encode(args, kwargs, limit=LIMIT).data
    bare = signature(send)

    works: list[Callable[[], Any]] = [
        lambda: bare.bind(*args, **kwargs),
        lambda: task.encode(args, kwargs, limit=LIMIT),
        lambda: task.decode(data),
    ]
    # in turns, as the machine may be quicker at one moment than at another
    rounds = [[timeit.timeit(work, number=100) for work in works] for _ in range(100)]
    assert statistics.median(encoding / binding for binding, encoding, _ in rounds) < 1.2
    assert statistics.median(decoding / binding for binding, _, decoding in rounds) < 1.2
