"""The extension: declares tasks before any app exists, and gives each app its engine."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from flask import Flask, Response, current_app

from . import web
from .config import Config
from .engines.base import Engine
from .errors import JobNotFound, NotInitialized, OptionError, PayloadError
from .feature_checks import check_schedule, check_task, need
from .jobs.job import Job, JobStatus
from .jobs.new_job import NewJob
from .jobs.rate import Rate
from .payload.calls import Codecs
from .payload.propagation import READY_MADE, Carry
from .profiler.install import install as install_evidence
from .profiler.timing import note_enqueue, span
from .role import is_server_request
from .state import AppState
from .tasks.names import find_declared, task_name, will_be_known
from .tasks.options import (
    KeyFunction,
    TaskOptions,
    check_task_name,
    keep_per_status,
    seconds,
)
from .tasks.retry import Backoff, RetryPolicy, exponential
from .tasks.schedule import CatchUp, Schedule
from .tasks.task import Call, Task, unique_states

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Offload:
    """Background work for Flask apps.

    Make one at module level, declare tasks on it, and give it the app or, in a factory, call
    `init_app`. It holds what is declared; what belongs to an app lies with that app, so that one
    Offload can serve several.
    """

    span = staticmethod(span)

    def __init__(self, app: Flask | None = None) -> None:
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.schedules: dict[str, tuple[Schedule, Task[[], Any]]] = {}
        self.codecs = Codecs()
        self.carries: list[Carry] = list(READY_MADE)
        self.authorizer: Callable[[Job], bool] | None = None
        self.states: WeakKeyDictionary[Flask, AppState] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the app's OFFLOAD_* settings and add the job resource and the commands.

        Raises ConfigError for settings that can't be used, and RuntimeError if the app has an
        Offload already.
        """
        if "offload" in app.extensions:
            same = app.extensions["offload"] is self
            raise RuntimeError(
                "init_app was called twice with this app: remove one of the calls"
                if same
                else "this app has another Offload already: import that one"
                " (app.extensions['offload']) instead of making a second"
            )
        state = AppState(app, self, Config.from_app(app))
        app.extensions["offload"] = self
        self.states[app] = state
        app.register_blueprint(web.make_blueprint(self), url_prefix=state.config.url_prefix)
        install_evidence(app, state.evidence_settings())
        app.before_request(state.on_request)
        app.cli.add_command(_commands())

    # --- declare ---

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        queue_name: str = "default",
        priority: int = 0,
        max_attempts: int = 1,
        backoff: Backoff | None = None,
        retry_on: type[BaseException] | Sequence[type[BaseException]] = Exception,
        discard_on: type[BaseException] | Sequence[type[BaseException]] = (),
        timeout: float | timedelta | None = None,
        isolate: bool = False,
        on_crash: Literal["retry", "fail"] = "retry",
        unique: bool | KeyFunction = False,
        unique_for: float | timedelta | None = None,
        unique_states: Iterable[JobStatus | str] | None = None,
        concurrency: int | None = None,
        concurrency_key: KeyFunction | None = None,
        rate: str | Rate | None = None,
        rate_key: KeyFunction | None = None,
        keep: float | timedelta | Mapping[str, float | timedelta] | None = None,
        result_ttl: float | timedelta | None = None,
        expose: Literal["result"] | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self, function: Callable[..., Any] | None = None, /, **options: Any
    ) -> Task[..., Any] | Callable[[Callable[..., Any]], Task[..., Any]]:
        """Make a function a task: as `@offload.task`, as `@offload.task(queue_name="mail")`, or as
        `offload.task(function)` for a function that somebody else wrote.

        Durations are seconds or timedeltas. docs/control.md tells what each option does; a value
        that can't be used raises OptionError here, when the task is declared.

        name: where the function's own `module.name` won't do.
        queue_name, priority: the defaults of its jobs; `using()` changes them for one call.
        max_attempts (1), backoff (exponential), retry_on (Exception), discard_on: see RetryPolicy.
        timeout (none): then the job is asked to stop, and after OFFLOAD_TIMEOUT_GRACE stopped.
        isolate (False): run it alone in a process of its own.
        on_crash ("retry"): whether it may run again when its worker died.
        unique (False), unique_for, unique_states: don't enqueue what is waiting already.
        concurrency, concurrency_key, rate, rate_key: how many at once, how many starts in a while.
        keep, result_ttl: how long the finished job and its result are kept.
        expose: "result" shows the result over HTTP.
        """
        if function is None:
            return functools.partial(self._declare, options)
        return self._declare(options, function)

    def _declare(self, given: dict[str, Any], function: Callable[..., Any]) -> Task[..., Any]:
        if isinstance(function, Task):
            raise OptionError(
                f"{function.name} is a task already: decorate it once, with @offload.every above"
                " @offload.task."
            )
        if not callable(function):
            raise OptionError(f"@offload.task decorates a function, not {function!r}.")
        name = given.get("name")
        if name is None:
            name = task_name(function)
        else:
            check_task_name(name)
        options = _options(given)
        known = self.tasks.get(name)
        if known is not None:
            if known.function is function and not given:
                return known
            if not _is_same_code(known.function, function):
                raise OptionError(
                    f"two tasks are named {name!r}: give one of them a name of its own (name=…)."
                )
        if is_server_request() and not will_be_known(function, has_options=bool(given)):
            raise OptionError(
                f"{name} is declared while a request is answered, and no worker would hear of it:"
                " declare it where modules are imported (task = offload.task(…) at the top level)."
            )
        task: Task[..., Any] = Task(self, function, name, options)
        for state in self.states.values():
            check_task(state.engine, task)
        self.tasks[name] = task
        return task

    def every(
        self,
        when: str | timedelta,
        *,
        tz: str | ZoneInfo | None = None,
        jitter: float | timedelta = 0.0,
        catch_up: CatchUp = "one",
        name: str | None = None,
        **options: Any,
    ) -> Callable[[Callable[[], R] | Task[[], R]], Task[[], R]]:
        """Run a task without arguments again and again: `@offload.every("*/15 * * * *")`.

        when: cron text (five fields, or "@hourly" and its like), or a timedelta.
        tz: the time zone of cron text; UTC when left out. jitter: seconds by which each run is
        moved at most. catch_up: "one" run for all times that were missed while no worker ran,
        "all" of them, or "none". name: of the schedule; the task's name when left out.
        options: those of `@offload.task`. Raises OptionError.
        """

        def decorate(function: Callable[[], R] | Task[[], R]) -> Task[[], R]:
            task = function if isinstance(function, Task) else self._declare(options, function)
            if isinstance(function, Task) and options:
                raise OptionError("give the options to @offload.task, below @offload.every.")
            task.spec.bind((), {})  # refuses a task that can't be called without arguments
            schedule = Schedule(name or task.name, when, tz, jitter, catch_up)
            for state in self.states.values():
                check_schedule(state.engine, schedule.name)
            self.schedules[schedule.name] = (schedule, task)
            return task

        return decorate

    def carry(self, name: str) -> Callable[[Callable[[], Any]], Carry]:
        """Carry something from the request into the job: decorate a function that gives a JSON
        value (None: nothing), then one that puts it back::

            @offload.carry("tenant")
            def tenant():
                return g.get("tenant")

            @tenant.restore
            def restore_tenant(value):
                g.tenant = value

        The second may return a context manager, which is held while the task runs.
        """

        def decorate(save: Callable[[], Any]) -> Carry:
            carry = Carry(name, save)
            self.carries = [known for known in self.carries if known.name != name] + [carry]
            return carry

        return decorate

    def codec(
        self,
        type_: type[T],
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        *,
        name: str | None = None,
    ) -> None:
        """Let arguments and results of this type travel: `encode` gives something that can be
        carried (say a dict), `decode` makes the object from it again."""
        self.codecs.register(type_, encode, decode, name=name)

    def authorize(self, function: Callable[[Job], bool]) -> Callable[[Job], bool]:
        """Decorate `may_see(job) -> bool`, which decides in a request who may see a job."""
        self.authorizer = function
        return function

    def scheduled(self) -> list[tuple[Schedule, NewJob]]:
        """Every schedule, and the job that each of its times makes. Needs an app context."""
        found = []
        for schedule, task in self.schedules.values():
            new_job = task.call().new_job
            new_job.origin = "schedule"
            found.append((schedule, new_job))
        return found

    # --- use, inside an app context ---

    def enqueue_many(self, calls: Iterable[Call]) -> list[Job]:
        """Enqueue calls made with `task.call(…)`, all in one transaction or none.

        Raises PayloadError for anything else than a call, EngineUnavailable, and
        UnsupportedByEngine where an engine can't promise that.
        """
        began = time.perf_counter()
        state = self.current_state()
        new_jobs = [_new_job(call) for call in calls]
        if len(new_jobs) > 1:
            need(state.engine, "transactional_batches", "enqueue_many() of more than one call")
        try:
            records = state.engine.enqueue(new_jobs) if new_jobs else []
        except BaseException:
            for job in new_jobs:
                state.forget_files(job.files)
            raise
        jobs = state.accepted(records, new_jobs)
        note_enqueue(time.perf_counter() - began)
        return jobs

    def get_job(self, job_id: str) -> Job:
        """The job with this id. Raises JobNotFound."""
        engine = self.engine
        if not isinstance(job_id, str):  # such as None, from a request that names none
            raise JobNotFound(f"there is no job {job_id!r}: an id is a text, see job.id")
        return Job(engine.get(job_id), engine, self.codecs)

    @property
    def engine(self) -> Engine:
        """The current app's engine."""
        return self.current_state().engine

    def accepted(self, job: Job) -> Response:
        """The answer to a request whose work goes on in `job`: 202 with its address."""
        self.current_state()
        return web.accepted(job)

    @overload
    def respond_async(self, view: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def respond_async(
        self, view: None = None, /, **options: Any
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def respond_async(self, view: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Let a whole view become a job when the client says `Prefer: respond-async` (RFC 7240);
        docs/http.md tells the options."""
        if view is None:
            return functools.partial(web.respond_async, self, **options)
        return web.respond_async(self, view, **options)

    def find_task(self, name: str) -> Task[Any, Any] | None:
        """The task of this name; a plain function of the app's own code becomes one, if web
        processes enqueue it as `offload.task(function)` inside a view."""
        task = self.tasks.get(name)
        if task is None:
            function = find_declared(name)
            task = None if function is None else self._declare({}, function)
        return task

    def state_of(self, app: Flask) -> AppState:
        """What belongs to this app. Raises NotInitialized."""
        state = self.states.get(app)
        if state is None:
            raise NotInitialized(
                f"the app {app.name!r} has no Flask-Offload: call offload.init_app(app) where the"
                " app is made"
            )
        return state

    def current_state(self) -> AppState:
        """What belongs to the current app. Raises NotInitialized."""
        return self.state_of(current_app._get_current_object())  # type: ignore[attr-defined]


def _new_job(call: object) -> NewJob:
    if not isinstance(call, Call):
        raise PayloadError(
            f"enqueue_many takes calls, not {type(call).__name__}: write"
            " offload.enqueue_many([task.call(…), …])"
        )
    return call.new_job


def _commands() -> Any:
    from .cli import offload_group  # the commands import click's world only where they are needed

    return offload_group


def _options(given: dict[str, Any]) -> TaskOptions:
    """What @offload.task was given, in its final form. Raises OptionError."""
    options = dict(given)
    options.pop("name", None)
    known = {*TaskOptions.__dataclass_fields__, "max_attempts", "backoff", "retry_on", "discard_on"}
    known.discard("retry")
    for key in options.keys() - known:
        raise OptionError(
            f"@offload.task has no option {key!r}; it has {', '.join(sorted({*known, 'name'}))}."
        )
    backoff = options.pop("backoff", None)
    options["retry"] = RetryPolicy(
        max_attempts=options.pop("max_attempts", 1),
        backoff=exponential() if backoff is None else backoff,
        retry_on=_types(options.pop("retry_on", Exception)),
        discard_on=_types(options.pop("discard_on", ())),
    )
    for key in ("timeout", "unique_for", "result_ttl"):
        if key in options:
            options[key] = seconds(key, options[key])
    if isinstance(options.get("rate"), str):
        options["rate"] = Rate.parse(options["rate"])
    if "keep" in options:
        options["keep"] = keep_per_status(options["keep"])
    if "unique_states" in options:
        options["unique_states"] = unique_states(options["unique_states"])
    return TaskOptions(**options)


def _types(value: Any) -> Any:
    """What RetryPolicy takes, or refuses."""
    if isinstance(value, type):
        return (value,)
    return tuple(value) if isinstance(value, list | set | frozenset) else value


def _is_same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both come from the same lines, as when a factory runs twice or a module reloads."""
    a, b = getattr(one, "__code__", one), getattr(other, "__code__", other)
    if a is b:
        return True
    where = [
        (getattr(code, "co_filename", None), getattr(code, "co_qualname", None)) for code in (a, b)
    ]
    return where[0] == where[1] != (None, None)
