"""Assertions about enqueued jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec

from flask import current_app

from ..engines.base import JobQuery
from ..errors import NotInitialized, PayloadError
from ..jobs.job import Job
from ..state import AppRegistry, AppState

if TYPE_CHECKING:
    from ..tasks.task import Task

P = ParamSpec("P")

LISTED = 1000
SHOWN = 10


def enqueued(task: Task[..., Any]) -> list[Job]:
    """The jobs of a task, in any status, oldest first; the newest 1000 at most.

    Uses the current app or, without an app context, the one that was created last.
    """
    state = _state_for(task)
    records = state.engine.list(JobQuery(task=task.name, limit=LISTED))
    return [state.job(record) for record in reversed(records)]


def assert_enqueued(task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Job:
    """Fail unless this call of the task was enqueued; returns the newest such job.

    Keywords and defaults may be written or left out as in any call; `unittest.mock.ANY` matches any
    value. Raises PayloadError for a call that doesn't fit the task's signature.
    """
    state = _state_for(task)
    wanted = task.spec.bind(args, kwargs)
    jobs = enqueued(task)
    calls = []
    with state.app.app_context():
        for job in reversed(jobs):
            found = _arguments(state, task, job)
            if found is not None and (found == wanted or _same(task, found, args, kwargs)):
                return job
            calls.append(f"{_call(task, found)} {job.status}")
    others = f": only {'; '.join(calls[:SHOWN])}" if calls else ", nor any other call of it"
    more = f" and {len(calls) - SHOWN} more" if len(calls) > SHOWN else ""
    raise AssertionError(f"{_call(task, wanted)} was not enqueued{others}{more}")


def assert_not_enqueued(task: Task[..., Any]) -> None:
    """Fail if any job of the task was enqueued."""
    jobs = enqueued(task)
    if jobs:
        state = _state_for(task)
        with state.app.app_context():
            calls = [_call(task, _arguments(state, task, job)) for job in jobs[:SHOWN]]
        raise AssertionError(f"{len(jobs)} jobs of {task.name} were enqueued: {'; '.join(calls)}")


def _state_for(task: Task[..., Any]) -> AppState:
    assert isinstance(task.owner, AppRegistry)
    states = task.owner.states
    if current_app:
        state = states.get(current_app._get_current_object())  # type: ignore[attr-defined]
    else:
        state = next(reversed(list(states.values())), None)
    if state is None:
        raise NotInitialized(f"no app has the Offload of {task.name}: create the app first")
    state.check_test_database()
    return state


def _arguments(state: AppState, task: Task[..., Any], job: Job) -> dict[str, Any] | None:
    """A job's arguments by parameter; None if they can't be decoded, such as a deleted row."""
    try:
        stored = state.engine.arguments(job.id)
        return task.spec.bind(*task.spec.decode(stored, spool=state.spool))
    except PayloadError:
        return None


def _same(
    task: Task[..., Any], found: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether both are encoded in the same way: rows are equal by key, files by content."""
    try:
        return task.spec.fingerprint((), found) == task.spec.fingerprint(args, kwargs)
    except PayloadError:  # something like mock.ANY, or a parameter that takes no keyword
        return False


def _call(task: Task[..., Any], arguments: dict[str, Any] | None) -> str:
    if arguments is None:
        return f"{task.name}(arguments that can't be read)"
    return f"{task.name}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
