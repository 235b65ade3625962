"""Wall clocks that are set forward and back, and days of 23 and of 25 hours."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines import sql_schedules
from flask_offload.engines.schedules import ScheduleSpec
from flask_offload.engines.sqlite.claims import SqliteClaims
from flask_offload.engines.store import Retention
from flask_offload.jobs.job import new_id
from flask_offload.jobs.new_job import THREADS, NewJob

from ..app import accept, later, quick, slow
from ..scenario import BOTH, Run, scenario
from ..world import World

HOUR, DAY = 3600, 86_400
STEPS = (HOUR, -HOUR, DAY, -DAY)


@scenario(
    "T11",
    "the wall clock of a worker is set by an hour and by a day, forward and back, while jobs run"
    " and others wait for their time",
    stores=BOTH,
)
def clock_steps(run: Run) -> None:
    folder = run.new_folder()
    offset = folder / "offset"
    offset.write_text("0")
    shim: dict[str, Any] = {"LD_PRELOAD": run.shim("clock_shim"), "CLOCK_SHIM": str(offset)}
    stuck: list[str] = []
    early: list[str] = []
    with run.world() as world, world.here():
        world.watch()
        world.worker(**shim)
        for step in STEPS * run.size(1, 50):
            due = accept(later(quick, 1800).enqueue())
            number = len(world.lines("start"))
            running = [accept(slow.enqueue(0.5)) for _ in range(3)]
            world.wait_for_lines("start", number + 1)
            offset.write_text(f"{step}")
            after = accept(quick.enqueue())
            try:
                for job in (*running, after):
                    job.wait(20)
                if step > 1800:
                    due.wait(20)
            except Exception as error:
                stuck.append(f"{step:+} s: {error}")
            ran = bool(due.refresh().started_at)
            if step < 0 and ran:
                early.append(f"{step:+} s")
            offset.write_text("0")
            if not due.is_finished:
                due.cancel()
        world.quiesce(20)
        audit = world.audit()
    run.figure("steps", len(STEPS) * run.size(1, 50))
    run.judge(audit)
    run.gate("jobs go on after each step", stuck or "yes", not stuck)
    run.gate("none starts before its time", early or "yes", not early)
    run.gate("no job ran twice", audit.again, audit.again == 0)


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
CRONS = ("30 2 * * *", "*/30 * * * *", "0 3 * * *")


@scenario(
    "T11",
    "schedules and jobs for later over both changes of the clock in three zones, and schedules"
    " through steps of the clock back and forward: each time makes one job, each job is due once",
)
def daylight_saving(run: Run) -> None:
    wrong: list[str] = []
    days = 0
    hours = run.size(4, 12)
    for zone in ZONES:
        for change in _changes(ZoneInfo(zone), 2026):
            for cron in CRONS:
                days += 1
                wrong += _day_around(run, zone, change, cron, hours)
    run.figure(
        "days with a change",
        f"{days}, {hours} hours before and after, by {len(CRONS)} schedules in {len(ZONES)} zones",
    )
    run.gate("each time makes exactly one job", wrong[:5] or "yes", not wrong)
    next_year = datetime.now(ZoneInfo("UTC")).year + 1  # what lies in the past is due now
    late = [
        text
        for zone in ZONES
        for change in _changes(ZoneInfo(zone), next_year)
        for text in _not_due_in_time(run, zone, change)
    ]
    run.gate("each job for later is due at its moment, once", late[:5] or "yes", not late)


def _changes(zone: ZoneInfo, year: int) -> list[float]:
    """The moments of that year at which the zone's offset from UTC changes."""
    found = []
    start = int(datetime(year, 1, 1, tzinfo=zone).timestamp())
    for moment in range(start, start + 365 * DAY, 1800):
        here, before = (
            datetime.fromtimestamp(m, zone).utcoffset() for m in (moment, moment - 1800)
        )
        if here != before:
            found.append(float(moment))
    return found


def _day_around(run: Run, zone: str, change: float, cron: str, hours: int) -> list[str]:
    """Look each minute, now and then an hour back; the times of the jobs against the wall clock."""
    begin = change - hours * HOUR
    now = [begin]
    engine = SqliteEngine(run.new_folder() / "jobs.sqlite3", clock=lambda: now[0], durable=False)
    template = NewJob(
        id=new_id(), task="t", queue_name="default", priority=0, enqueued_at=0.0, args="[]"
    )
    spec = ScheduleSpec("s", cron, None, zone, 0.0, "one", template)
    fired: Counter[int] = Counter()

    def tick(at: float) -> int:
        return len(engine.database.write(lambda c: sql_schedules.tick(engine, c, spec, at)))

    try:
        for minute in range(2 * hours * 60):
            now[0] = begin + minute * 60
            if minute and run.chance.random() < 0.02:  # the clock is set back, and right again
                tick(now[0] - HOUR)
            fired[int(now[0])] += tick(now[0])
    finally:
        engine.close()
    fired = +fired
    expected = _expected(zone, cron, begin, change + hours * HOUR)
    if fired == Counter(expected):
        return []
    return [f"{zone}, {cron}: {sorted(fired.elements())} and not {sorted(expected)}"]


def _not_due_in_time(run: Run, zone: str, change: float) -> list[str]:
    """Jobs for every quarter of an hour around the change, told as a wall clock shows it: an hour
    that comes twice is distinguished by `fold`."""
    now = [change - 4 * HOUR]
    folder = run.new_folder()
    engine = SqliteEngine(folder / "jobs.sqlite3", clock=lambda: now[0], durable=False)
    claims = SqliteClaims(engine, "w1", Retention(DAY, DAY, 10**6))
    expected, found = {}, {}
    try:
        with World(folder) as world, world.here():
            for quarter in range(-12, 13):
                moment = change + quarter * HOUR / 4
                wall = datetime.fromtimestamp(moment, ZoneInfo(zone))
                (job,) = engine.enqueue([quick.using(run_after=wall).call().new_job])
                expected[job.id] = moment
        for minute in range(-240, 240):
            now[0] = change + minute * 60
            claims.promote()
            for claim in claims.exchange([], {THREADS: 10}).claims:
                assert claim.id not in found
                found[claim.id] = now[0]
    finally:
        engine.close()
    if found == expected:
        return []
    return [f"{zone}: due at {sorted(found.values())} and not {sorted(expected.values())}"]


def _expected(zone: str, cron: str, begin: float, end: float) -> list[int]:
    """The moments at which the job must be made, reckoned minute by minute from what Debian's cron
    promises: a fixed time that is skipped is made up for when the gap ends, one that comes twice
    counts once; a schedule with a star goes by the clock."""
    minute_text, hour_text = cron.split()[:2]
    tz = ZoneInfo(zone)
    step = int(minute_text[2:]) if minute_text.startswith("*/") else None
    moments, seen = [], set()
    for moment in range(int(begin) + 60, int(end), 60):
        wall = datetime.fromtimestamp(moment, tz)
        if step is not None:
            if wall.minute % step == 0:
                moments.append(moment)
            continue
        passed = _walls_passed(wall, datetime.fromtimestamp(moment - 60, tz))
        for each in passed:
            fits = (each.hour, each.minute) == (int(hour_text), int(minute_text))
            if fits and each.date() not in seen:
                seen.add(each.date())
                moments.append(moment)
    return moments


def _walls_passed(now: datetime, before: datetime) -> list[datetime]:
    """What a wall clock has shown, or has skipped, since a minute ago."""
    here, there = now.replace(tzinfo=None), before.replace(tzinfo=None)
    minutes = int((here - there) / timedelta(minutes=1))
    return [there + timedelta(minutes=n) for n in range(1, minutes + 1)] if minutes > 0 else [here]
