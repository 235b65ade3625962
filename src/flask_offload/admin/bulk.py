"""Retry, cancel or discard many jobs, in bites between which other processes write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from ..engines.base import LOOK, Engine, JobQuery
from ..jobs.job import JobStatus

Action = Literal["retry", "cancel", "discard"]

STATUSES: Final[Mapping[Action, Sequence[JobStatus]]] = {
    "retry": (JobStatus.FAILED, JobStatus.CANCELLED),
    "cancel": (JobStatus.READY, JobStatus.RUNNING),
    "discard": (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SUCCESSFUL),
}
"""The statuses of jobs that an action changes."""

FLAGS: Final[Mapping[Action, str]] = {
    "retry": "retries",
    "cancel": "cancels_waiting",
    "discard": "discards",
}
"""The flag that an engine needs for an action."""

BITE = 100
"""Jobs that are changed in one transaction."""


def in_turns(step: Callable[[], bool]) -> None:
    """Repeat a step while it returns True, and pause as long as each has taken (1 s at most): half
    of the time the database is free for enqueues."""
    while True:
        began = time.perf_counter()
        if not step():
            return
        time.sleep(min(time.perf_counter() - began, 1.0))


def matching(engine: Engine, action: Action, query: JobQuery) -> list[str]:
    """The ids of the jobs that meet a query and that the action would change, the newest first.
    query: its limit and its place don't count."""
    found: list[str] = []
    statuses = [query.status] if query.status is not None else STATUSES[action]
    for status in statuses:
        if status not in STATUSES[action]:
            continue
        after: str | None = None
        while True:
            wanted = msgspec.structs.replace(query, status=status, limit=1000, after=after)
            page = engine.page(wanted, 10 * LOOK)
            found += [record.id for record in page.jobs]
            after = page.next
            if after is None:
                break
    return found


def change_some(engine: Engine, action: Action, ids: Sequence[str], *, force: bool = False) -> int:
    """Change at most BITE jobs, in one transaction where the engine has them; how many."""
    if action == "retry":
        return engine.retry_many(ids)
    return engine.discard_many(ids) if action == "discard" else engine.cancel_many(ids, force)


def change_all(
    engine: Engine,
    action: Action,
    ids: Sequence[str],
    *,
    force: bool = False,
    report: Callable[[int], object] = lambda done: None,
) -> int:
    """Retry, cancel or discard these jobs; how many were changed. A job that has another status by
    now is left. force: of `Job.cancel`. report: called with the number of jobs looked at so far."""
    done = changed = 0

    def bite() -> bool:
        nonlocal done, changed
        some = ids[done : done + BITE]
        changed += change_some(engine, action, some, force=force)
        done += len(some)
        report(done)
        return done < len(ids)

    if ids:
        in_turns(bite)
    return changed
