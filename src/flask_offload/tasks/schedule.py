"""When a schedule fires: pure functions of a schedule and of unix times.

The set of fire times depends on the schedule alone, never on when or how often it is computed. So
every process computes the same times, and a store that keeps the time of its last call sees each
time exactly once:

    due(schedule, last, now), then last = now, in one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from hashlib import blake2b
from itertools import count, islice, pairwise, takewhile
from typing import Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from ..errors import OptionError

CatchUp: TypeAlias = Literal["one", "all", "none"]

CATCH_UP_LIMIT = 100
"""With catch_up="all", at most this many times are due at once: the newest ones."""

FRESH = 60.0
"""With catch_up="none", a time that is this many seconds old still counts as now, not as missed."""

CLOCK_WAS_WRONG = 86_400.0
"""A clock set back by more than this (seconds) had been wrong before. Smaller steps back are normal
(NTP; a hardware clock in local time is at most 14 hours off) and are waited out."""

_DAY = 86_400
_MICRO = 1_000_000
_LAST_DATE = 253_402_300_799.0  # 9999-12-31T23:59:59Z, the end of datetime

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """What `@offload.every(…)` declares. Checked when it is declared.

    name: of the schedule; every process must use the same one, because jitter is drawn from it.
    when: cron text with five fields or an alias such as "@hourly"; or a timedelta of a second or
        more, whose times are the whole multiples of it since 1970-01-01T00:00Z.
    tz: the time zone of cron text, as an IANA name; UTC when left out.
    jitter: seconds or a timedelta; each time is moved later by an amount below it, the same in
    every
        process.
    catch_up: what follows from times that passed while no worker ran: "one" run for all of them,
        "all" of them (at most CATCH_UP_LIMIT), or "none".

    Raises OptionError when a value can't be used.
    """

    name: str
    when: str | timedelta
    tz: str | ZoneInfo | None = None
    jitter: float | timedelta = 0.0
    catch_up: CatchUp = "one"

    def __post_init__(self) -> None:
        if isinstance(self.when, str):
            _check_cron(self.when)
        else:
            _check_interval(self.when, self.tz)
        _zone(self.tz)
        _check_jitter(self)
        if self.catch_up not in get_args(CatchUp):
            raise OptionError(f'catch_up={self.catch_up!r}: write "one", "all" or "none".')

    @property
    def description(self) -> str:
        """Its times in a few words; the same words mean the same times."""
        when = self.when if isinstance(self.when, str) else f"every {self.when}"
        zone = getattr(self.tz, "key", self.tz)
        jitter = _seconds(self.jitter)
        return when + (f" {zone}" if zone else "") + (f" jitter {jitter:g} s" if jitter else "")


def due(schedule: Schedule, last: float, now: float, limit: int = CATCH_UP_LIMIT) -> list[float]:
    """The times after `last` and up to `now` for which a job has to be enqueued, oldest first.

    last: the `now` of the last call whose jobs were enqueued; for a new schedule, the current
        time.
    limit: how many times catch_up="all" returns at most; older ones are skipped.

    "one" gives the newest time only; so does "none", unless it is older than FRESH. The work grows
    with the number of times returned, not with the distance between `last` and `now`. Nothing is
    due while `now <= last`, as after a clock was set back.
    """
    wanted = limit if schedule.catch_up == "all" else 1
    oldest = now - FRESH if schedule.catch_up == "none" else -math.inf
    earliest_tick = last - _seconds(schedule.jitter)
    ticks = takewhile(lambda tick: tick > earliest_tick, _ticks(schedule, now, -1))
    fires = (tick + _delay(schedule, tick) for tick in ticks)
    newest = islice((fire for fire in fires if last < fire <= now), wanted)
    return sorted(fire for fire in newest if fire >= oldest)


def next_after(schedule: Schedule, moment: float) -> float | None:
    """The first time after `moment`; None if cron text matches no day of the next 50 years."""
    best: float | None = None
    for tick in _ticks(schedule, moment - _seconds(schedule.jitter), 1):
        if best is not None and tick >= best:
            break  # jitter only delays, so no later tick can be earlier
        fire = tick + _delay(schedule, tick)
        if fire > moment and (best is None or fire < best):
            best = fire
    return best


def count_from(last: float, now: float) -> float:
    """The `last` to pass to `due()`: the stored one, unless it was written under a wrong clock.

    If a clock that was years ahead is corrected, waiting until it reaches `last` again would
    suspend the schedule for years. So after a step back of more than CLOCK_WAS_WRONG it is `now`.
    """
    return now if last - now > CLOCK_WAS_WRONG else last


def run_at(run_after: timedelta | datetime | None, now: float) -> float | None:
    """`run_after` as a moment in unix seconds, never before `now`; None when none was given.

    Raises OptionError for a naive datetime, another type, or a moment beyond the year 9999.
    """
    if run_after is None:
        return None
    if isinstance(run_after, timedelta):
        moment = now + run_after.total_seconds()
    elif not isinstance(run_after, datetime):
        raise OptionError(
            f"run_after={run_after!r}: give a timedelta, such as timedelta(seconds=30), or an "
            "aware datetime."
        )
    elif run_after.utcoffset() is None:
        raise OptionError(
            f"run_after={run_after!r} has no time zone, so its time is ambiguous: write "
            "datetime.now(UTC) + …, or run_after.astimezone() if it is this machine's local time."
        )
    else:
        moment = run_after.timestamp()
    if moment > _LAST_DATE:
        raise OptionError(f"run_after={run_after!r} is after the year 9999: give an earlier time.")
    return max(moment, now)


# --- the times, before jitter ------------------------------------------------------------------


def _ticks(schedule: Schedule, start: float, step: Literal[1, -1]) -> Iterator[float]:
    """The schedule's times before jitter, from `start` on: later ones (1) or earlier ones (-1).

    A time on the wrong side of `start` may come first, since callers look at each of them anyway.
    """
    if isinstance(schedule.when, timedelta):
        # Whole multiples of the interval since the epoch, in integers: nothing can drift.
        interval = _microseconds(schedule.when)
        nearest = math.floor(start * _MICRO) // interval
        return (number * interval / _MICRO for number in count(nearest + (step < 0), step))
    cron = _cron(schedule.when)
    zone = _zone(schedule.tz)
    exclusive = math.floor(start) + (step < 0)
    # Debian cron (man 8 cron, "Notes"): only jobs that run at a particular time, without a star at
    # the beginning of the minute or hour field, are protected from changes of the clock.
    minute, hour = cron.split()[:2]
    if minute.startswith("*") or hour.startswith("*"):
        return _running_ticks(cron, zone, exclusive, step)
    return _fixed_ticks(cron, zone, exclusive, step)


# CronSim walks the bare calendar here, and the zone is applied to what it gives. With a zone it
# walks in real hours, and where a change of the clock is not a whole hour, or falls on midnight, it
# leaves times out or adds some: for "*/10 3 * * *" in Australia/Lord_Howe on 2026-10-04, CronSim
# 2.8 begins at 03:30, though that day's clock shows 03:00, 03:10 and 03:20.


def _running_ticks(cron: str, zone: tzinfo, start: int, step: Literal[1, -1]) -> Iterator[int]:
    """Every moment at which the wall clock matches: a repeated hour twice, a skipped one never."""
    while True:
        near = start + step
        offset = _offset(zone, near)
        for wall in CronSim(cron, _wall(start + offset), reverse=step < 0):
            tick = _stamp(wall) - offset
            change = _next_change(zone, near, tick, step)
            if change is not None:  # the match is none, or not the next one: go on from the change
                start = change - step
                break
            yield tick
            near = tick
        else:
            return


def _fixed_ticks(cron: str, zone: tzinfo, start: int, step: Literal[1, -1]) -> Iterator[int]:
    """One moment for each match: a repeated time its first, a skipped one the end of the gap."""
    # Going back from the second pass through a repeated hour, later wall times come before it.
    margin = _DAY if step < 0 else 0
    for wall in CronSim(cron, _wall(start + _offset(zone, start) + margin), reverse=step < 0):
        tick = _first_moment(zone, wall)
        if (tick - start) * step > 0:
            yield tick
            start = tick  # several skipped times meet at the end of the gap, and make one


def _first_moment(zone: tzinfo, wall: datetime) -> int:
    first, second = (int(wall.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    if first <= second:
        return first
    # PEP 495: fold=0 reckons a skipped time with the offset before the gap, fold=1 with that after.
    return _change(zone, second, first)


def _next_change(zone: tzinfo, near: int, far: int, step: Literal[1, -1]) -> int | None:
    """The first moment on the way from `near` to `far` with another UTC offset than `near`.

    Looks once a day: since 1970 no zone has changed its offset twice within six days.
    """
    offset = _offset(zone, near)
    while near != far:
        ahead = min(near + _DAY, far) if step > 0 else max(near - _DAY, far)
        if _offset(zone, ahead) != offset:
            return _change(zone, near, ahead)
        near = ahead
    return None


def _change(zone: tzinfo, near: int, far: int) -> int:
    """The first moment with `far`'s UTC offset, coming from `near`, which has another one."""
    offset = _offset(zone, near)
    while abs(far - near) > 1:
        middle = (near + far) // 2
        if _offset(zone, middle) == offset:
            near = middle
        else:
            far = middle
    return far


def _offset(zone: tzinfo, moment: int) -> int:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return round(offset.total_seconds()) if offset is not None else 0


def _wall(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _stamp(wall: datetime) -> int:
    return int(wall.replace(tzinfo=UTC).timestamp())


# --- jitter ------------------------------------------------------------------------------------


def _delay(schedule: Schedule, tick: float) -> float:
    """Seconds below the jitter, even over the ticks; a hash, so that all processes agree."""
    jitter = _seconds(schedule.jitter)
    if not jitter:
        return 0.0
    key = f"{schedule.name}\0{round(tick * _MICRO)}".encode()
    number = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    return (number >> 11) / 2**53 * jitter  # 53 bits: all that a float below 1 can hold


# --- checks at declaration -----------------------------------------------------------------------


def _cron(text: str) -> str:
    return _ALIASES.get(text.strip().lower(), text)


def _check_cron(text: str) -> None:
    cron = _cron(text)
    if cron.strip().startswith("@"):
        raise OptionError(f"every({text!r}): no such alias; there are {', '.join(_ALIASES)}.")
    fields = len(cron.split())
    if fields == 6:
        raise OptionError(
            f"every({text!r}): cron text has five fields here, and a minute is its shortest step; "
            "for seconds give a timedelta, such as every(timedelta(seconds=10))."
        )
    if fields != 5:
        raise OptionError(
            f"every({text!r}): cron text needs five fields (minute, hour, day of month, month, day "
            f"of week), and this has {fields}; for example '*/15 * * * *'."
        )
    try:
        never = next(CronSim(cron, datetime(2000, 1, 1)), None) is None
    except (CronSimError, ValueError) as error:
        raise OptionError(
            f"every({text!r}): {str(error).lower()}; the fields are minute 0-59, hour 0-23, day of "
            "month 1-31 (as far as the month goes), month 1-12, day of week 0-7, each '*', a "
            "number, a list, a range or a step such as '*/15'."
        ) from None
    if never:
        raise OptionError(
            f"every({text!r}): no such day comes in 50 years; correct the date fields."
        )


def _check_interval(when: object, tz: object) -> None:
    if not isinstance(when, timedelta):
        raise OptionError(
            f"every({when!r}): give cron text, such as '*/15 * * * *', or a timedelta, such as "
            "timedelta(minutes=15)."
        )
    if when <= timedelta(0):
        raise OptionError(f"every({when!r}): the time between two runs must be above zero.")
    if when < timedelta(seconds=1):
        raise OptionError(
            f"every({when!r}): a second is the shortest interval; do several rounds in one job."
        )
    if tz is not None:
        raise OptionError(
            f"every({when!r}, tz={tz!r}): an interval has the same length in every time zone; "
            "leave tz out, or give cron text, such as '0 3 * * *' for three o'clock there."
        )


def _check_jitter(schedule: Schedule) -> None:
    value = schedule.jitter
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise OptionError(f"jitter={value!r}: give seconds or a timedelta.")
    jitter = _seconds(value)
    if not 0 <= jitter < math.inf:
        raise OptionError(f"jitter={value!r}: give 0 or more seconds; times only move later.")
    shortest = _shortest_gap(schedule.when)
    if jitter >= shortest:
        raise OptionError(
            f"jitter={value!r} reaches the next run, which may come {shortest:g} s later: give "
            "less, so that runs keep their order."
        )


def _shortest_gap(when: str | timedelta) -> float:
    """Seconds between two ticks, at least: for cron text, those of two days in a row."""
    if isinstance(when, timedelta):
        return when.total_seconds()
    fields = CronSim(_cron(when), datetime(2000, 1, 1))
    minutes = sorted(60 * hour + minute for hour in fields.hours for minute in fields.minutes)
    return 60.0 * min(b - a for a, b in pairwise([*minutes, minutes[0] + 24 * 60]))


def _zone(tz: str | ZoneInfo | None) -> tzinfo:
    if tz is None or tz == "UTC":
        return UTC  # works without any time zone data
    if isinstance(tz, ZoneInfo) and tz.key is not None:
        return tz
    if not isinstance(tz, str):  # a zone from a file has no name that other processes could use
        raise OptionError(
            f"tz={tz!r}: give an IANA name, such as 'Europe/Berlin', or a ZoneInfo made from one."
        )
    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError):  # unknown, not a name at all, a folder of zones
        raise OptionError(_unknown_zone(tz)) from None


def _unknown_zone(tz: str) -> str:
    names = available_timezones()
    if not names:
        return f"tz={tz!r}: this system has no time zone data: pip install tzdata."
    near = get_close_matches(tz, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else "names look like 'Europe/Berlin'. "
    return f"tz={tz!r} is unknown here: {hint}If the name is right: pip install tzdata."


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _microseconds(value: timedelta) -> int:
    return value // timedelta(microseconds=1)
