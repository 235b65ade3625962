from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_offload.errors import OptionError
from flask_offload.jobs.rate import Rate


@pytest.mark.parametrize(
    ("text", "count", "window"),
    [
        ("100/m", 100, 60),
        ("10/s", 10, 1),
        ("1000/h", 1000, 3600),
        ("5/30s", 5, 30),
        ("2/d", 2, 86_400),
        (" 1 / 2 h ", 1, 7200),
    ],
)
def test_rates_by_hand(text: str, count: int, window: int) -> None:
    assert Rate.parse(text) == Rate(count, window)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write starts per time"),
        ("100", "write starts per time"),
        ("100/w", "the units are s, m, h and d"),
        ("100/minute", "write starts per time"),
        ("1.5/s", "write starts per time"),
        ("-1/s", "write starts per time"),
        ("\u0661/s", "write starts per time"),
        ("1/s\n2/s", "write starts per time"),
        (100, "write starts per time"),
        (None, "write starts per time"),
        ("0/s", "pause the queue"),
        ("5/0s", "at least 1 second"),
        ("5/367d", "longer than 366 days"),
        ("9" * 10_000 + "/s", "too large"),
        ("1/" + "9" * 10_000 + "s", "too large"),
    ],
)
def test_a_bad_rate_is_refused_with_the_remedy(text: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Rate.parse(text)


@pytest.mark.parametrize("bad", [(1.5, 60), (1, 0.5), (True, 60), ("1", 60)])
def test_a_rate_holds_whole_numbers(bad: tuple[Any, Any]) -> None:
    with pytest.raises(OptionError, match="whole number"):
        Rate(*bad)


@given(st.builds(Rate, st.integers(1, 10**9 - 1), st.integers(1, 366 * 86_400)))
def test_a_rate_reads_back_what_it_writes(rate: Rate) -> None:
    assert Rate.parse(str(rate)) == rate


def test_rates_are_written_with_the_largest_unit() -> None:
    assert [str(Rate(5, window)) for window in (1, 30, 60, 90, 7200, 86_400)] == [
        "5/s",
        "5/30s",
        "5/m",
        "5/90s",
        "5/2h",
        "5/d",
    ]
