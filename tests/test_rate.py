from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_offload.errors import OptionError
from flask_offload.rate import Rate, room, wait_until


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


@settings(deadline=None)
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


# Moments in quarters of a second: exact in floats, and close enough to fall on window edges.
QUARTERS = st.integers(0, 400).map(lambda quarters: 1_790_000_000 + quarters / 4)


@settings(deadline=None)
@given(
    asked=st.lists(QUARTERS, max_size=60).map(sorted),
    rate=st.builds(Rate, st.integers(1, 5), st.integers(1, 20)),
)
def test_no_window_sees_more_starts_than_allowed(asked: list[float], rate: Rate) -> None:
    """The limiter that the store writes in SQL, here over a list."""
    starts: list[float] = []
    for now in asked:
        counted = [start for start in starts if now - rate.window_seconds < start <= now]
        if room(len(counted), rate):
            starts.append(now)
        else:
            free_at = wait_until(sorted(counted)[-rate.count], rate)
            assert free_at > now
            later = [start for start in starts if free_at - rate.window_seconds < start]
            assert room(len(later), rate) >= 1
            just_before = [s for s in starts if free_at - 0.125 - rate.window_seconds < s]
            assert room(len(just_before), rate) == 0
    for start in starts:
        window = [s for s in starts if start <= s < start + rate.window_seconds]
        assert len(window) <= rate.count


def test_room_is_never_negative() -> None:
    # after the limit was lowered, more starts than it allows may lie in the window
    assert room(7, Rate(5, 60)) == 0
    assert room(3, Rate(5, 60)) == 2
