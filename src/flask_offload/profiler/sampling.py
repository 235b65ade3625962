"""One sample of a slow request: its stack, and its processor time since the last one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType

from .call_tree import CallTree, Spent
from .request_sample import RequestSample, clock
from .stacks import follow_async, frames_within, read_stack

SHORTEST, LONGEST = 0.010, 1.0
"""Seconds between two samples of a request: a fiftieth of its age, within these bounds."""
MAX_SAMPLES = 2000
"""Samples of one request; enough for more than half an hour."""


def outward(request: RequestSample | None) -> Iterator[RequestSample]:
    """This request, and those within which it runs in the same thread."""
    while request is not None:
        yield request
        request = request.outer


def sample(
    thread: int,
    innermost: RequestSample,
    threads: Mapping[int, FrameType],
    boundaries: tuple[CodeType, ...],
    late: float,
) -> None:
    """Add a sample to this request, and to those around it, as far as they are due.

    threads: the frames that all threads are in. boundaries: the code whose calls are the outer
    ends of requests. late: seconds by which this sample is too late.
    """
    now = clock()
    top = threads.get(thread)
    frames: list[FrameType] = []
    for request in outward(innermost):
        within: list[FrameType] = []
        if top is not None:
            within, top = frames_within(top, boundaries)
        frames = within + frames  # what the outer request sees includes the inner one
        age = request.age(now)
        if age >= request.next_sample:
            located, executing = follow_async(frames, thread, threads)
            _add(request, located, executing, age, late)


def _add(
    request: RequestSample, frames: list[FrameType], executing: int | None, age: float, late: float
) -> None:
    if request.tree is None:
        request.tree = CallTree()
    gap = max(age - request.last_age, 0.0)
    late = min(late, gap)
    cpu = thread_seconds(executing) if executing is not None else 0.0
    share = _processor_share(request, executing, cpu, gap, late)
    request.tree.add(
        read_stack(frames, request.profiler.user_code),
        between=_spent(gap - late, share),
        late=_spent(late, share),
    )
    request.note_route()
    request.last_age, request.last_thread, request.last_cpu = age, executing, cpu
    pause = min(max(age / 50, SHORTEST), LONGEST)
    request.next_sample = age + pause if request.tree.samples < MAX_SAMPLES else float("inf")


def _processor_share(
    request: RequestSample, executing: int | None, cpu: float | None, gap: float, late: float
) -> float | None:
    """Which share of a processor it used since the last sample; None when unknown."""
    if executing is None:
        return 0.0  # an async view that waits
    if cpu is None or gap <= 0:
        return None
    if request.last_thread == executing and request.last_cpu is not None:
        return min((cpu - request.last_cpu) / gap, 1.0)
    if late:
        return min(cpu / gap, 1.0)  # the first sample: at most all that the thread ever used
    return None


def _spent(seconds: float, share: float | None) -> Spent:
    if share is None:
        return Spent(seconds)
    return Spent(seconds, seconds * share, seconds)


def thread_seconds(ident: int) -> float | None:
    """Seconds for which a thread ran or was runnable.

    None where the system does not report it. Linux has both parts in a thread's schedstat
    (https://docs.kernel.org/scheduler/sched-stats.html). Without the second, a thread on a busy
    machine would seem to wait.
    """
    thread = next((each for each in threading.enumerate() if each.ident == ident), None)
    # the main thread of a forked process still has its parent's id (Python 3.11)
    number = os.getpid() if thread is threading.main_thread() else thread and thread.native_id
    try:
        on_cpu, in_line, _ = Path(f"/proc/self/task/{number}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(on_cpu) + int(in_line)) / 1e9
