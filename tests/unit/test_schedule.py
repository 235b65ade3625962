from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from io import BytesIO
from struct import pack
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_offload.errors import OptionError
from flask_offload.tasks import schedule as module
from flask_offload.tasks.schedule import (
    CATCH_UP_LIMIT,
    CLOCK_WAS_WRONG,
    FRESH,
    CatchUp,
    Schedule,
    count_from,
    due,
    next_after,
    run_at,
)

HOUR = 3600
DAY = 86_400
MANY = 10_000


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def clock(moment: float, tz: str) -> str:
    """The wall clock there, with its UTC offset, so that a repeated hour can be told apart."""
    return datetime.fromtimestamp(moment, ZoneInfo(tz)).strftime("%d %H:%M%z")


# --- through both changes of the clock, worked out by hand ---------------------------------------

FORWARD_BERLIN = ("2026-03-28T20:00", "2026-03-29T04:00")  # 02:00 -> 03:00 at 01:00Z on the 29th
BACK_BERLIN = ("2026-10-24T20:00", "2026-10-25T04:00")  # 03:00 -> 02:00 at 01:00Z on the 25th
FORWARD_NEW_YORK = ("2026-03-08T04:00", "2026-03-08T09:00")  # 02:00 -> 03:00 at 07:00Z
BACK_NEW_YORK = ("2026-11-01T04:00", "2026-11-01T09:00")  # 02:00 -> 01:00 at 06:00Z
FORWARD_LORD_HOWE = ("2026-10-03T13:30", "2026-10-03T17:30")  # 02:00 -> 02:30 at 15:30Z, by half
BACK_LORD_HOWE = ("2026-04-04T13:00", "2026-04-04T17:00")  # 02:00 -> 01:30 at 15:00Z, an hour
FORWARD_SANTIAGO = ("2026-09-06T02:00", "2026-09-06T07:00")  # 00:00 -> 01:00 at 04:00Z: no midnight
BACK_SANTIAGO = ("2026-04-05T01:00", "2026-04-05T05:30")  # 00:00 -> 23:00 the day before, 03:00Z


@pytest.mark.parametrize(
    ("tz", "cron", "span", "expected"),
    [
        # a particular time that is skipped runs once, at the end of the gap
        ("Europe/Berlin", "30 2 * * *", FORWARD_BERLIN, ["29 03:00+0200"]),
        ("Europe/Berlin", "15,45 2 * * *", FORWARD_BERLIN, ["29 03:00+0200"]),
        ("Europe/Berlin", "0 2,3 * * *", FORWARD_BERLIN, ["29 03:00+0200"]),
        ("America/New_York", "30 2 * * *", FORWARD_NEW_YORK, ["08 03:00-0400"]),
        ("Australia/Lord_Howe", "15 2 * * *", FORWARD_LORD_HOWE, ["04 02:30+1100"]),
        ("Australia/Lord_Howe", "45 2 * * *", FORWARD_LORD_HOWE, ["04 02:45+1100"]),
        ("America/Santiago", "0 0 * * *", FORWARD_SANTIAGO, ["06 01:00-0300"]),
        ("America/Santiago", "@daily", FORWARD_SANTIAGO, ["06 01:00-0300"]),
        # a particular time that is repeated runs once, the first time
        ("Europe/Berlin", "30 2 * * *", BACK_BERLIN, ["25 02:30+0200"]),
        ("America/New_York", "30 1 * * *", BACK_NEW_YORK, ["01 01:30-0400"]),
        ("Australia/Lord_Howe", "45 1 * * *", BACK_LORD_HOWE, ["05 01:45+1100"]),
        ("America/Santiago", "30 23 * * *", BACK_SANTIAGO, ["04 23:30-0300"]),
        ("America/Santiago", "0 0 * * *", BACK_SANTIAGO, ["05 00:00-0400"]),
        # a star in minute or hour follows the clock: nothing in a gap, a repeated hour twice
        (
            "Europe/Berlin",
            "*/30 1-3 * * *",
            FORWARD_BERLIN,
            ["29 01:00+0100", "29 01:30+0100", "29 03:00+0200", "29 03:30+0200"],
        ),
        (
            "Europe/Berlin",
            "*/30 2 * * *",
            BACK_BERLIN,
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"],
        ),
        (
            "America/New_York",
            "@hourly",
            BACK_NEW_YORK,
            ["01 01:00-0400", "01 01:00-0500", "01 02:00-0500", "01 03:00-0500", "01 04:00-0500"],
        ),
        (
            "Australia/Lord_Howe",
            "*/10 2 * * *",
            FORWARD_LORD_HOWE,
            ["04 02:30+1100", "04 02:40+1100", "04 02:50+1100"],
        ),
        (
            "Australia/Lord_Howe",
            "*/20 3 * * *",
            FORWARD_LORD_HOWE,
            ["04 03:00+1100", "04 03:20+1100", "04 03:40+1100"],
        ),
        (
            "Australia/Lord_Howe",
            "*/15 1 * * *",
            BACK_LORD_HOWE,
            [
                "05 01:00+1100",
                "05 01:15+1100",
                "05 01:30+1100",
                "05 01:45+1100",
                "05 01:30+1030",
                "05 01:45+1030",
            ],
        ),
        ("America/Santiago", "*/10 0 6 9 *", FORWARD_SANTIAGO, []),
    ],
)
def test_a_change_of_the_clock(
    tz: str, cron: str, span: tuple[str, str], expected: list[str]
) -> None:
    schedule = Schedule("report", cron, tz=tz, catch_up="all")
    fires = due(schedule, utc(span[0]), utc(span[1]), MANY)
    assert [clock(fire, tz) for fire in fires] == expected


def test_a_repeated_time_is_not_lost_when_asked_for_during_its_second_pass() -> None:
    schedule = Schedule("a", "30 2 * * *", tz="Europe/Berlin")
    second_pass = utc("2026-10-25T01:10")  # 02:10 for the second time; 02:30 has been 40 min ago
    assert due(schedule, utc("2026-10-24T20:00"), second_pass) == [utc("2026-10-25T00:30")]
    assert next_after(schedule, second_pass) == utc("2026-10-26T01:30")


def test_without_tz_cron_text_means_utc() -> None:
    moment = utc("2026-03-29T00:00")
    assert next_after(Schedule("a", "30 2 * * *"), moment) == utc("2026-03-29T02:30")
    assert next_after(Schedule("a", "30 2 * * *", tz="UTC"), moment) == utc("2026-03-29T02:30")
    berlin = Schedule("a", "30 4 * * *", tz=ZoneInfo("Europe/Berlin"))
    assert next_after(berlin, moment) == utc("2026-03-29T02:30")


# --- the calendar ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 12 29 2 *", "2024-02-29T12:00", "2028-02-29T12:00"),
        ("0 12 29 2 *", "2096-03-01T00:00", "2104-02-29T12:00"),  # 2100 is no leap year
        ("59 23 28-31 2 *", "2028-02-28T23:59", "2028-02-29T23:59"),
        ("59 23 28-31 2 *", "2027-02-28T23:59", "2028-02-28T23:59"),
        ("0 0 31 * *", "2026-01-31T00:00", "2026-03-31T00:00"),
        ("0 9 * * MON-FRI", "2026-11-20T09:00", "2026-11-23T09:00"),  # Friday to Monday
        ("0 0 13 * FRI", "2026-11-01T00:00", "2026-11-06T00:00"),  # either: the first Friday
        ("0 0 */2 * FRI", "2026-11-27T00:00", "2026-12-11T00:00"),  # both: no Friday the 4th
        ("0 0 * * FRI#2", "2026-11-22T00:00", "2026-12-11T00:00"),
        ("0 0 * * 5L", "2026-11-01T00:00", "2026-11-27T00:00"),
        ("0 0 L * *", "2026-11-22T00:00", "2026-11-30T00:00"),
        ("0 0 LW * *", "2026-10-01T00:00", "2026-10-30T00:00"),  # the 31st is a Saturday
        ("@weekly", "2026-11-22T00:00", "2026-11-29T00:00"),  # Sunday to Sunday
        ("@monthly", "2026-12-31T23:59:59", "2027-01-01T00:00"),
        ("@Yearly", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("*/15 * * * *", "2026-01-01T00:14:59.5", "2026-01-01T00:15"),
    ],
)
def test_the_next_time_by_hand(cron: str, after: str, expected: str) -> None:
    schedule = Schedule("a", cron)
    assert next_after(schedule, utc(after)) == utc(expected)
    assert due(schedule, utc(after), utc(expected)) == [utc(expected)]
    assert due(schedule, utc(after), utc(expected) - 0.001) == []


def test_intervals_are_whole_multiples_since_1970() -> None:
    hourly = Schedule("a", timedelta(hours=1))
    assert next_after(hourly, utc("2026-03-29T00:30")) == utc("2026-03-29T01:00")
    weekly = Schedule("a", timedelta(days=7))  # 1970-01-01 was a Thursday
    assert next_after(weekly, utc("2026-11-22T00:00")) == utc("2026-11-26T00:00")


@settings(deadline=None)
@given(
    interval=st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    last=st.floats(0, 4e9),
    intervals=st.integers(0, 30),
    part=st.floats(0, 0.99),
)
def test_intervals_never_drift(
    interval: timedelta, last: float, intervals: int, part: float
) -> None:
    schedule = Schedule("a", interval, catch_up="all")
    exact = Fraction(interval // timedelta(microseconds=1), 1_000_000)
    now = last + float(exact) * (intervals + part)
    first, final = Fraction(last) // exact - 1, Fraction(now) // exact + 1
    multiples = (float(number * exact) for number in range(first, final + 1))
    assert due(schedule, last, now) == [moment for moment in multiples if last < moment <= now]


@settings(deadline=None)
@given(
    microseconds=st.integers(1_000_000, 10_000_000),
    number=st.integers(100_000_000, 1_000_000_000),
)
def test_an_interval_that_is_no_whole_second_is_due_at_its_very_moment(
    microseconds: int, number: int
) -> None:
    schedule = Schedule("a", timedelta(microseconds=microseconds))
    before, moment = ((number - back) * microseconds / 1_000_000 for back in (1, 0))
    assert due(schedule, before, moment) == [moment]
    assert next_after(schedule, before) == moment


# --- against a model that looks at the clock of every minute -------------------------------------

MINUTES: dict[str, Sequence[int]] = {
    "0": [0],
    "30": [30],
    "15,45": [15, 45],
    "50-59/3": [50, 53, 56, 59],
    "*/10": range(0, 60, 10),
    "*": range(60),
}
HOURS: dict[str, Sequence[int]] = {
    "0": [0],
    "2": [2],
    "1-3": [1, 2, 3],
    "0,23": [0, 23],
    "*/2": range(0, 24, 2),
    "*": range(24),
}
DAYS: dict[str, Sequence[int]] = {"*": range(1, 32), "1-7": range(1, 8), "25-31": range(25, 32)}
WEEKDAYS: dict[str, Sequence[int]] = {"*": range(7), "SUN": [0], "1-6": range(1, 7)}

CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("America/Santiago", "2026-09-06T04:00"),
    ("America/Santiago", "2026-04-05T03:00"),
    ("Antarctica/Troll", "2026-10-25T01:00"),  # back by two hours
    ("Antarctica/Casey", "2023-03-08T16:00"),  # back by three
    ("Pacific/Apia", "2011-12-30T10:00"),  # a whole day left out
    ("Asia/Kathmandu", "2026-06-01T00:00"),  # no change, UTC+05:45
]


@st.composite
def crons(draw: st.DrawFn) -> tuple[str, str, str, str]:
    return (
        draw(st.sampled_from(list(MINUTES))),
        draw(st.sampled_from(list(HOURS))),
        draw(st.sampled_from(list(DAYS))),
        draw(st.sampled_from(list(WEEKDAYS))),
    )


def text_of(cron: tuple[str, str, str, str]) -> str:
    minute, hour, day, weekday = cron
    return f"{minute} {hour} {day} * {weekday}"


def matches(cron: tuple[str, str, str, str], wall: datetime) -> bool:
    minute, hour, day, weekday = cron
    if wall.minute not in MINUTES[minute] or wall.hour not in HOURS[hour]:
        return False
    in_days = wall.day in DAYS[day]
    in_weekdays = wall.isoweekday() % 7 in WEEKDAYS[weekday]
    either = "*" not in (day, weekday)
    return (in_days or in_weekdays) if either else (in_days and in_weekdays)


def model(cron: tuple[str, str, str, str], tz: str, start: float, end: float) -> list[float]:
    """With a star: all minutes whose clock matches. Without: the first at or past each match."""
    minute, hour = cron[:2]
    first = int(start) // 60 * 60
    moments = range(first - 2 * DAY, int(end) + 60, 60)
    zone = ZoneInfo(tz)
    walls = [datetime.fromtimestamp(moment, zone).replace(tzinfo=None) for moment in moments]
    if minute.startswith("*") or hour.startswith("*"):
        found = {moment for moment, wall in zip(moments, walls, strict=True) if matches(cron, wall)}
    else:
        found = set()
        calendar = walls[0]
        for moment, wall in zip(moments, walls, strict=True):
            while calendar <= wall:
                if matches(cron, calendar):
                    found.add(moment)
                calendar += timedelta(minutes=1)
    return sorted(float(moment) for moment in found if start < moment <= end)


near_changes = st.tuples(
    crons(), st.sampled_from(CHANGES), st.integers(-30 * HOUR, 6 * HOUR), st.integers(0, 40 * HOUR)
)


@settings(deadline=None, max_examples=150)
@given(near_changes)
def test_the_times_are_those_of_the_model(
    drawn: tuple[tuple[str, str, str, str], tuple[str, str], int, int],
) -> None:
    cron, (tz, change), before, length = drawn
    start = utc(change) + before
    schedule = Schedule("a", text_of(cron), tz=tz, catch_up="all")
    expected = model(cron, tz, start, start + length)
    assert due(schedule, start, start + length, MANY) == expected
    if expected:
        assert next_after(schedule, start) == expected[0]


@settings(deadline=None, max_examples=100)
@given(
    drawn=near_changes,
    steps=st.lists(st.floats(-8 * HOUR, 16 * HOUR), min_size=1, max_size=12),
    jitter=st.sampled_from([0, 0.5, 59.9]),
)
def test_no_time_is_lost_and_none_comes_twice_however_the_clock_steps(
    drawn: tuple[tuple[str, str, str, str], tuple[str, str], int, int],
    steps: list[float],
    jitter: float,
) -> None:
    cron, (tz, change), before, _ = drawn
    schedule = Schedule("a", text_of(cron), tz=tz, jitter=jitter, catch_up="all")
    start = now = last = utc(change) + before
    seen: list[float] = []
    for step in steps:
        now += step
        fires = due(schedule, last, now, MANY)
        assert not fires or now > last
        assert all(last < fire <= now for fire in fires)
        seen += fires
        last = max(last, now)
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)
    assert seen == due(schedule, start, last, MANY)
    ticks = model(cron, tz, start - 60, last)
    for fire in seen:
        assert any(tick <= fire < tick + 60 for tick in ticks)
    assert len(seen) >= sum(start < tick <= last - 60 for tick in ticks)


@settings(deadline=None, max_examples=60)
@given(drawn=near_changes, jitter=st.sampled_from([0.0, 1.0, 59.0]))
def test_going_from_one_next_time_to_the_next_meets_all(
    drawn: tuple[tuple[str, str, str, str], tuple[str, str], int, int], jitter: float
) -> None:
    cron, (tz, change), before, length = drawn
    schedule = Schedule("a", text_of(cron), tz=tz, jitter=jitter, catch_up="all")
    start = utc(change) + before
    end = start + min(length, 6 * HOUR)
    met = []
    moment = next_after(schedule, start)
    while moment is not None and moment <= end:
        met.append(moment)
        moment = next_after(schedule, moment)
    assert met == due(schedule, start, end, MANY)


# --- what was missed ---------------------------------------------------------------------------


def test_one_run_stands_for_all_that_were_missed() -> None:
    schedule = Schedule("a", "*/10 * * * *", catch_up="one")
    last = utc("2026-11-22T00:05")
    assert due(schedule, last, utc("2026-11-22T05:59")) == [utc("2026-11-22T05:50")]
    assert due(schedule, last, utc("2026-11-22T00:09")) == []


def test_none_leaves_out_what_is_no_longer_fresh() -> None:
    schedule = Schedule("a", "*/10 * * * *", catch_up="none")
    last, tick = utc("2026-11-22T00:05"), utc("2026-11-22T05:50")
    assert due(schedule, last, tick + FRESH) == [tick]
    assert due(schedule, last, tick + FRESH + 1) == []


def test_none_keeps_one_of_several_fresh_times() -> None:
    schedule = Schedule("a", timedelta(seconds=1), catch_up="none")
    assert due(schedule, 1000.0, 1030.5) == [1030.0]


def test_all_gives_each_that_was_missed() -> None:
    schedule = Schedule("a", timedelta(minutes=10), catch_up="all")
    last = utc("2026-11-22T00:05")
    expected = [utc(f"2026-11-22T00:{minute}") for minute in (10, 20, 30)]
    assert due(schedule, last, utc("2026-11-22T00:30")) == expected


@pytest.mark.parametrize("when", [timedelta(seconds=1), "* * * * *", "0 3 * * *"])
@pytest.mark.parametrize("catch_up", ["one", "all", "none"])
def test_a_jump_of_decades_makes_no_burst_and_little_work(
    when: str | timedelta, catch_up: CatchUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0
    real = module._delay

    def counting(schedule: Schedule, tick: float) -> float:
        nonlocal looked_at
        looked_at += 1
        return real(schedule, tick)

    monkeypatch.setattr(module, "_delay", counting)
    tz = "Europe/Berlin" if isinstance(when, str) else None
    schedule = Schedule("a", when, tz=tz, jitter=0.5, catch_up=catch_up)
    now = utc("2070-11-22T12:00:30.7")
    fires = due(schedule, utc("2026-11-22"), now)
    assert len(fires) <= (CATCH_UP_LIMIT if catch_up == "all" else 1)
    assert looked_at <= CATCH_UP_LIMIT + 5
    if catch_up == "all":
        assert len(fires) == CATCH_UP_LIMIT
        after = next_after(schedule, now)
        assert after is not None
        assert fires[-1] <= now < after  # the newest are kept
        assert due(schedule, fires[0], now) == fires[1:]


def test_the_limit_can_be_given() -> None:
    schedule = Schedule("a", timedelta(seconds=1), catch_up="all")
    assert due(schedule, 0.0, 1e9, limit=3) == [1e9 - 2, 1e9 - 1, 1e9]


@pytest.mark.parametrize("back", [0.0, 0.001, 60.0, HOUR, 400 * DAY])
def test_nothing_is_due_after_a_step_back(back: float) -> None:
    for when in ("* * * * *", timedelta(seconds=1)):
        schedule = Schedule("a", when, catch_up="all", jitter=0.5)
        last = utc("2026-11-22")
        assert due(schedule, last, last - back) == []


def test_a_schedule_goes_on_after_a_clock_that_ran_ahead_by_years() -> None:
    now = utc("2026-11-22")
    assert count_from(now - HOUR, now) == now - HOUR
    assert count_from(now + HOUR, now) == now + HOUR  # waits: these times have run already
    assert count_from(now + CLOCK_WAS_WRONG, now) == now + CLOCK_WAS_WRONG
    assert count_from(utc("2038-01-19"), now) == now


# --- jitter ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    name=st.text(),
    when=st.sampled_from(["0 3 * * *", "*/5 * * * *", timedelta(minutes=7)]),
    share=st.floats(0.001, 0.999),
    start=st.floats(0, 2e9),
)
def test_jitter_delays_each_time_by_less_than_itself(
    name: str, when: str | timedelta, share: float, start: float
) -> None:
    gap = {"0 3 * * *": DAY, "*/5 * * * *": 300}.get(str(when), 420)
    jitter = share * gap
    plain = Schedule(name, when, catch_up="all")
    shaken = Schedule(name, when, catch_up="all", jitter=jitter)
    end = start + 20 * gap
    ticks = due(plain, start - gap, end, MANY)
    for fire in due(shaken, start, end, MANY):
        assert sum(-1e-6 <= fire - tick <= jitter + 1e-6 for tick in ticks) == 1


def test_jitter_spreads_over_its_whole_width() -> None:
    schedule = Schedule("a", timedelta(seconds=100), jitter=timedelta(seconds=50), catch_up="all")
    delays = [fire % 100 for fire in due(schedule, 0.0, 100_000.0, MANY)]
    assert min(delays) < 5
    assert max(delays) > 45
    assert all(delay < 50 for delay in delays)
    assert 22 < sum(delays) / len(delays) < 28


def test_jitter_differs_between_schedules() -> None:
    names = ("a", "b", "c", "d")
    assert len({next_after(Schedule(name, "@daily", jitter=HOUR), 0.0) for name in names}) == 4


def test_a_time_that_jitter_holds_back_is_still_the_next_one() -> None:
    schedule = Schedule("a", "@daily", jitter=HOUR)
    midnight = utc("2026-11-22")
    fire = next_after(schedule, midnight)
    assert fire is not None
    assert midnight + 2 < fire < midnight + HOUR
    assert next_after(schedule, fire - 1) == fire


def test_jitter_may_swap_two_times_that_the_end_of_a_gap_brings_close() -> None:
    start, end = utc("2026-03-29T00:50"), utc("2026-03-29T03:00")
    swapped = 0
    for name in map(str, range(20)):
        # 02:30 is skipped and moves to 03:00, half an hour before 03:30
        schedule = Schedule(name, "30 2,3 * * *", "Europe/Berlin", 3599, "all")
        first = next_after(schedule, start)
        assert first is not None
        second = next_after(schedule, first)
        assert [first, second] == due(schedule, start, end)
        swapped += first >= utc("2026-03-29T01:30")
    assert swapped


@pytest.mark.processes
def test_every_process_draws_the_same_jitter() -> None:
    program = (
        "from flask_offload.tasks.schedule import *\n"
        "print(repr(next_after(Schedule('mail.sweep', '0 3 * * *', 'Europe/Berlin', 600), 1.79e9)))"
    )
    here = next_after(Schedule("mail.sweep", "0 3 * * *", "Europe/Berlin", 600), 1.79e9)
    for seed in ("1", "2"):
        there = run_python(program, PYTHONHASHSEED=seed)
        assert there == repr(here)


def run_python(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


# --- checks at declaration ---------------------------------------------------------------------

# The smallest time zone file (RFC 9636): one type, UTC.
UTC_FILE = b"TZif" + bytes(16) + pack(">6l", 0, 0, 0, 0, 1, 4) + pack(">lBB", 0, 0, 0) + b"UTC\0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"when": ""}, "needs five fields .* has 0"),
        ({"when": "* * * *"}, "needs five fields .* has 4"),
        ({"when": "* * * * * *"}, r"give a timedelta, such as every\(timedelta\(seconds=10\)\)"),
        ({"when": "60 * * * *"}, "bad minute"),
        ({"when": "* 24 * * *"}, "bad hour"),
        ({"when": "0 0 0 * *"}, "bad day-of-month"),
        ({"when": "0 0 31 2 *"}, "as far as the month goes"),
        ({"when": "0 0 * 13 *"}, "bad month"),
        ({"when": "0 0 * * MOO"}, "bad day-of-week"),
        ({"when": "*/0 * * * *"}, "bad minute"),
        ({"when": "5-1 * * * *"}, "bad minute"),
        ({"when": "9" * 5000 + " * * * *"}, "integer string conversion"),
        ({"when": "0 0 */31 2 MON#5"}, "no such day comes in 50 years"),
        ({"when": "@reboot"}, "no such alias; there are @yearly"),
        ({"when": timedelta(0)}, "must be above zero"),
        ({"when": timedelta(seconds=-1)}, "must be above zero"),
        ({"when": timedelta(milliseconds=999)}, "a second is the shortest interval"),
        ({"when": 60}, "give cron text"),
        ({"when": None}, "give cron text"),
        ({"when": timedelta(hours=1), "tz": "Europe/Berlin"}, "leave tz out"),
        ({"tz": "Europe/Berln"}, "did you mean 'Europe/Berlin'.*pip install tzdata"),
        ({"tz": "Europe"}, "pip install tzdata"),
        ({"tz": ""}, "pip install tzdata"),
        ({"tz": "/etc/passwd"}, "pip install tzdata"),
        ({"tz": "+02:00"}, "names look like 'Europe/Berlin'"),
        ({"tz": 2}, "give an IANA name"),
        ({"tz": timezone(timedelta(hours=2))}, "give an IANA name"),
        ({"tz": ZoneInfo.from_file(BytesIO(UTC_FILE))}, "a ZoneInfo made from one"),
        ({"jitter": -1}, "times only move later"),
        ({"jitter": float("nan")}, "times only move later"),
        ({"jitter": "1m"}, "give seconds or a timedelta"),
        ({"jitter": True}, "give seconds or a timedelta"),
        ({"jitter": 3600}, "reaches the next run, which may come 3600 s later"),
        ({"when": "58 23 * * *", "jitter": DAY}, "may come 86400 s later"),
        ({"when": "0,58 0,23 * * *", "jitter": 120}, "may come 120 s later"),
        ({"when": timedelta(minutes=1), "jitter": timedelta(minutes=1)}, "may come 60 s later"),
        ({"catch_up": "some"}, 'write "one", "all" or "none"'),
    ],
)
def test_a_bad_schedule_is_refused_where_it_is_declared(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Schedule(**{"name": "a", "when": "0 * * * *", **options})


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/,-#LW MONJA@", max_size=25))
def test_any_text_is_either_refused_or_has_a_next_time(text: str) -> None:
    try:
        schedule = Schedule("a", text)
    except OptionError:
        return
    moment = next_after(schedule, utc("2026-11-22"))
    assert moment is not None
    assert due(schedule, utc("2026-11-22"), moment) == [moment]


@pytest.mark.processes
def test_without_time_zone_data_utc_works_and_names_say_what_to_install() -> None:
    program = (
        "import sys; sys.modules['tzdata'] = None\n"
        "from flask_offload.tasks.schedule import *\n"
        "print(next_after(Schedule('a', '@hourly', tz='UTC'), 0.0))\n"
        "try: Schedule('a', '@hourly', tz='Europe/Berlin')\n"
        "except Exception as error: print(error)"
    )
    lines = run_python(program, PYTHONTZPATH="").splitlines()
    assert lines == [
        "3600.0",
        "tz='Europe/Berlin': this system has no time zone data: pip install tzdata.",
    ]


def test_schedules_are_values() -> None:
    assert Schedule("a", "@daily") == Schedule("a", "@daily")
    assert len({Schedule("a", "@daily"), Schedule("a", "@daily"), Schedule("b", "@daily")}) == 2


# --- run_after ---------------------------------------------------------------------------------

NOW = 1_790_000_000.0


def test_run_after_by_hand() -> None:
    assert run_at(None, NOW) is None
    assert run_at(timedelta(minutes=2), NOW) == NOW + 120
    assert run_at(datetime(2030, 1, 1, 12, tzinfo=UTC), NOW) == 1_893_499_200.0
    paris = datetime(2030, 7, 1, 14, tzinfo=ZoneInfo("Europe/Paris"))
    assert run_at(paris, NOW) == utc("2030-07-01T12:00")


def test_what_lies_in_the_past_runs_now() -> None:
    assert run_at(timedelta(seconds=-1), NOW) == NOW
    assert run_at(timedelta.min, NOW) == NOW
    assert run_at(datetime(1969, 1, 1, tzinfo=UTC), NOW) == NOW


@pytest.mark.parametrize(
    ("run_after", "message"),
    [
        (datetime(2030, 1, 1), r"no time zone.*datetime.now\(UTC\).*astimezone\(\)"),
        (30, r"give a timedelta, such as timedelta\(seconds=30\)"),
        (True, "give a timedelta"),
        ("2030-01-01T00:00Z", "give a timedelta"),
        (timedelta.max, "after the year 9999"),
    ],
)
def test_a_bad_run_after_is_refused_with_the_remedy(run_after: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        run_at(run_after, NOW)
