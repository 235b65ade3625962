"""What the source says about a call: its name, and whether its value is used."""

from __future__ import annotations

import asyncio
import sys
import time
import time as clock
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from types import CodeType
from typing import Any

import pytest

from flask_offload.profiler.call_site import CallSite, Usage, call_site, full_name
from flask_offload.profiler.stacks import Place

seen: list[CallSite] = []


def grab(value: Any = 7) -> Any:
    """Look at the place that this is called from."""
    frame = sys._getframe(1)
    outer = frame.f_code
    if frame.f_code.co_name in ("<listcomp>", "<genexpr>"):
        assert frame.f_back is not None
        outer = frame.f_back.f_code
    seen.append(call_site(Place(frame.f_code, frame.f_lasti, frame.f_lineno, outer)))
    return value


async def grab_later() -> int:
    return int(grab())


def looked_at(function: Callable[[], object]) -> CallSite:
    seen.clear()
    function()
    return seen[0]


# --- not used ----------------------------------------------------------------------------------


def statement() -> None:
    grab()


def assigned_and_forgotten() -> int:
    unread = grab()  # noqa: F841
    return 1


def in_a_branch() -> None:
    if seen is not None:
        for _ in range(1):
            grab(
                "over several lines",
            )


class Shop:
    """A class whose methods are indented, so that they can't be parsed alone."""

    text = """
  this line is indented less
"""

    def method(self) -> None:
        grab()

    def over_several_lines(self) -> None:
        (
            self.itself()
            .itself()
            .sell()
        )  # fmt: skip

    def itself(self) -> Shop:
        return self

    def sell(self) -> None:
        frame = sys._getframe(1)
        seen.append(call_site(Place(frame.f_code, frame.f_lasti, frame.f_lineno, frame.f_code)))


@pytest.mark.parametrize(
    "function",
    [
        statement,
        assigned_and_forgotten,
        in_a_branch,
        Shop().method,
        Shop().over_several_lines,
    ],
)
def test_a_value_that_is_never_read_is_not_used(function: Callable[[], object]) -> None:
    assert looked_at(function).usage is Usage.UNUSED


# --- used --------------------------------------------------------------------------------------


def returned() -> object:
    return grab()


def read_later() -> object:
    value = grab()
    return value


def read_by_an_inner_function() -> Callable[[], object]:
    value = grab()
    return lambda: value


def in_a_condition() -> None:
    if grab():
        pass


def as_an_argument() -> None:
    str(grab())


def in_an_expression_statement() -> None:
    grab() + 1  # type: ignore[operator, unused-ignore]


def in_a_comprehension() -> list[object]:
    return [grab() for _ in range(1)]


def into_an_attribute() -> None:
    grab.value = grab()  # type: ignore[attr-defined]


def unpacked() -> None:
    _, *_ = grab([1, 2])


def with_walrus() -> None:
    (value := grab())  # noqa: F841


def global_name() -> None:
    global kept
    kept = grab()


kept: object = None


@pytest.mark.parametrize(
    "function",
    [
        returned,
        read_later,
        read_by_an_inner_function,
        in_a_condition,
        as_an_argument,
        in_an_expression_statement,
        in_a_comprehension,
        into_an_attribute,
        unpacked,
        with_walrus,
        global_name,
    ],
)
def test_a_value_that_goes_anywhere_is_used(function: Callable[[], object]) -> None:
    assert looked_at(function).usage is Usage.USED


def test_awaiting_is_no_use_by_itself() -> None:
    async def awaits() -> None:
        await grab_later()

    async def uses() -> int:
        return await grab_later()

    assert _while_awaited(awaits).usage is Usage.UNUSED
    assert _while_awaited(uses).usage is Usage.USED


def _while_awaited(function: Callable[[], Any]) -> CallSite:
    """The place of the outer coroutine while the inner one runs."""
    found: list[CallSite] = []

    async def main() -> None:
        coroutine = function()
        asyncio.get_running_loop().call_soon(lambda: None)
        task = asyncio.ensure_future(coroutine)
        await asyncio.sleep(0)
        await task

    def trace(frame: Any, event: str, arg: object) -> None:
        if event == "call" and frame.f_code is grab_later.__code__ and frame.f_back:
            outer = frame.f_back
            place = Place(outer.f_code, outer.f_lasti, outer.f_lineno, outer.f_code)
            found.append(call_site(place))

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        asyncio.run(main())
    finally:
        sys.settrace(before)
    return found[0]


# --- not a call, or not to be found ------------------------------------------------------------


class Lazy:
    @property
    def value(self) -> int:
        return int(grab_outer())

    def __enter__(self) -> Lazy:
        grab_outer()
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __iter__(self) -> Iterator[int]:
        grab_outer()
        return iter([1])


def grab_outer() -> int:
    """Look at the place from which the caller was called."""
    frame = sys._getframe(2)
    seen.append(call_site(Place(frame.f_code, frame.f_lasti, frame.f_lineno, frame.f_code)))
    return 1


def a_property() -> None:
    Lazy().value  # noqa: B018


def a_loop() -> None:
    for _ in Lazy():
        pass


def test_what_is_no_call_has_no_name_and_counts_as_used() -> None:
    assert looked_at(a_property) == CallSite(None, Usage.USED, False)
    assert looked_at(a_loop) == CallSite(None, Usage.USED, False)


def test_a_with_statement_is_named_by_its_object() -> None:
    def opens() -> None:
        with Lazy():
            pass

    assert looked_at(opens) == CallSite("with Lazy()", Usage.USED, False)


def test_a_call_is_named_as_it_is_written() -> None:
    assert looked_at(statement).name == "grab"


def test_the_wrapper_of_a_decorator_passes_the_value_on() -> None:
    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            return function(*args, **kwargs)

        return wrapper

    def inner() -> int:
        return grab_outer()

    assert looked_at(decorate(inner)).passes_on
    assert not looked_at(statement).passes_on


def test_what_an_app_factory_defines_is_no_wrapper() -> None:
    def helper() -> int:
        return grab_outer()

    def view() -> None:
        helper()

    assert looked_at(view) == CallSite("helper", Usage.UNUSED, False)


def test_a_lambda_passes_the_value_on() -> None:
    assert looked_at(lambda: grab()).passes_on


def test_without_its_source_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    code = compile("def run():\n    grab()\n", str(path), "exec")
    module: dict[str, Any] = {"grab": grab}
    exec(code, module)
    assert looked_at(module["run"]) == CallSite(None, Usage.UNKNOWN, False)


def test_a_source_that_has_changed_since_reports_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "changed.py"
    code = compile("def run():\n    x = 1\n    grab()\n    return x\n", str(path), "exec")
    path.write_text("# a new line\ndef run():\n    return grab()\n")
    module: dict[str, Any] = {"grab": grab}
    exec(code, module)
    assert looked_at(module["run"]).usage is Usage.UNKNOWN


def test_positions_may_be_missing() -> None:
    """As with `python -X no_debug_ranges`."""
    code: CodeType = statement.__code__
    assert call_site(Place(code, 10_000, 1, code)).usage is Usage.UNKNOWN


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("sleep", "time.sleep"),
        ("clock.sleep", "time.sleep"),
        ("time.sleep", "time.sleep"),
        ("missing.sleep", "missing.sleep"),
        ("Lazy.value", "Lazy.value"),
        ("connection.execute", "connection.execute"),
    ],
)
def test_a_c_function_is_named_as_others_know_it(name: str, known_as: str) -> None:
    module = {"time": time, "clock": clock, "sleep": sleep, "Lazy": Lazy}
    assert full_name(name, module) == known_as
