"""The schedules as pages and commands show them: those that the app declares, and those that it did
declare once."""

from __future__ import annotations

import msgspec

from ..engines.base import ScheduleInfo
from ..state import AppState
from ..tasks.schedule import next_after


def known_schedules(state: AppState) -> list[ScheduleInfo]:
    """By name. One that no worker has seen yet has its next time too; one that is disabled, or that
    the app no longer declares, has none. Raises UnsupportedByEngine without the flag `schedules`.
    """
    known = {info.name: info for info in state.engine.schedules()}
    now = state.clock()
    for name, (schedule, task) in state.registry.schedules.items():
        seen = known.get(name)
        if seen is None or seen.description != schedule.description or seen.next_run is None:
            following = next_after(schedule, now)
        else:
            following = seen.next_run
        known[name] = ScheduleInfo(
            name=name,
            task=task.name,
            description=schedule.description,
            last_run=seen.last_run if seen else None,
            last_job=seen.last_job if seen else None,
            next_run=following,
            disabled_at=seen.disabled_at if seen else None,
        )
    return [
        msgspec.structs.replace(info, next_run=None)
        if info.disabled_at is not None or info.name not in state.registry.schedules
        else info
        for _, info in sorted(known.items())
    ]
