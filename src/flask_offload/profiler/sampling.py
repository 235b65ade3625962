"""One look at a slow request: its stack, and how much of a processor it used since the last one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType

from .call_tree import CallTree, Spent
from .request_sample import Watched, clock
from .stacks import follow_async, frames_within, read_stack

SHORTEST, LONGEST = 0.010, 1.0
"""Seconds between two looks at a request: a fiftieth of its age, within these bounds."""
MAX_SAMPLES = 2000
"""Looks at one request; they last for more than half an hour."""


def outward(watched: Watched | None) -> Iterator[Watched]:
    """This request, and those within which it runs in the same thread."""
    while watched is not None:
        yield watched
        watched = watched.outer


def sample(
    thread: int,
    innermost: Watched,
    threads: Mapping[int, FrameType],
    boundaries: tuple[CodeType, ...],
    late: float,
) -> None:
    """Add a sample to this request, and to those around it, as far as their time has come.

    threads: the frames that all threads are in. boundaries: the code whose calls are the outer
    ends of requests. late: seconds by which this look is too late.
    """
    now = clock()
    top = threads.get(thread)
    frames: list[FrameType] = []
    for watched in outward(innermost):
        within: list[FrameType] = []
        if top is not None:
            within, top = frames_within(top, boundaries)
        frames = within + frames  # what the outer request sees includes the inner one
        age = watched.age(now)
        if age >= watched.look_at:
            located, executing = follow_async(frames, thread, threads)
            _add(watched, located, executing, age, late)


def _add(
    watched: Watched, frames: list[FrameType], executing: int | None, age: float, late: float
) -> None:
    if watched.tree is None:
        watched.tree = CallTree()
    gap = max(age - watched.last_age, 0.0)
    late = min(late, gap)
    cpu = thread_seconds(executing) if executing is not None else 0.0
    share = _processor_share(watched, executing, cpu, gap, late)
    watched.tree.add(
        read_stack(frames, watched.spotter.user_code),
        between=_spent(gap - late, share),
        late=_spent(late, share),
    )
    watched.note_route()
    watched.last_age, watched.last_thread, watched.last_cpu = age, executing, cpu
    pause = min(max(age / 50, SHORTEST), LONGEST)
    watched.look_at = age + pause if watched.tree.samples < MAX_SAMPLES else float("inf")


def _processor_share(
    watched: Watched, executing: int | None, cpu: float | None, gap: float, late: float
) -> float | None:
    """Which share of a processor it used since the last look; None when that can't be told."""
    if executing is None:
        return 0.0  # an async view that waits
    if cpu is None or gap <= 0:
        return None
    if watched.last_thread == executing and watched.last_cpu is not None:
        return min((cpu - watched.last_cpu) / gap, 1.0)
    if late:
        return min(cpu / gap, 1.0)  # the first look: all that the thread ever used is the most
    return None


def _spent(seconds: float, share: float | None) -> Spent:
    if share is None:
        return Spent(seconds)
    return Spent(seconds, seconds * share, seconds)


def thread_seconds(ident: int) -> float | None:
    """Seconds for which a thread has computed or would have, had a processor been free for it.

    None where the system does not tell. Linux tells both parts in a thread's schedstat
    (https://docs.kernel.org/scheduler/sched-stats.html). Without the second, a thread on a busy
    machine would seem to wait for something.
    """
    thread = next((each for each in threading.enumerate() if each.ident == ident), None)
    # the main thread of a forked process still has its parent's number (Python 3.11)
    number = os.getpid() if thread is threading.main_thread() else thread and thread.native_id
    try:
        on_cpu, in_line, _ = Path(f"/proc/self/task/{number}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(on_cpu) + int(in_line)) / 1e9
