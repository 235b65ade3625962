"""What is declared on an Offload: tasks, schedules, codecs, propagators, who may see a job."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload
from zoneinfo import ZoneInfo

from ..errors import Discard, JobNotFound, OptionError
from ..jobs.alert import ALERT, Alert
from ..jobs.failure import ON_FAILURE
from ..jobs.job import Job, JobStatus
from ..jobs.new_job import NewJob
from ..jobs.rate import Rate
from ..payload.calls import Codecs
from ..payload.propagation import BUILT_IN, Propagator
from ..role import is_server_request
from .alerts import find_alert
from .names import find_declared, is_same_declaration, task_name, will_be_known
from .options import (
    READ_AT_ENQUEUE,
    KeyFunction,
    TaskOptions,
    check_task_name,
    keep_per_status,
    seconds,
)
from .retry import Backoff, RetryPolicy, exponential
from .schedule import CatchUp, Schedule
from .task import Task, unique_states

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Access = TypeVar("Access", bound=Callable[[], Any])


class Registry(ABC):
    """What is declared on an Offload, independent of any app; AppRegistry adds the apps."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.schedules: dict[str, tuple[Schedule, Task[[], Any]]] = {}
        self.codecs: Codecs = Codecs()
        self.apps_made = 0
        """How many apps have been given this registry so far."""
        self._declared_at: dict[str, int] = {}
        patient = TaskOptions(retry=RetryPolicy(max_attempts=10, backoff=exponential(10.0)))
        self.built_in: dict[str, Task[Any, Any]] = {
            ON_FAILURE: Task(self, self._call_on_failure, ON_FAILURE, patient),
            ALERT: Task(self, self._call_alert, ALERT, patient),
        }
        """Tasks of this package, by their names."""
        self.propagators: list[Propagator] = list(BUILT_IN)
        self.authorizer: Callable[[Job], bool] | None = None
        self.dashboard_accessor: Callable[[], Any] | None = None

    @abstractmethod
    def enqueue_call(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        """Enqueue one call in the current app."""

    @abstractmethod
    def new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob:
        """The job that one call makes in the current app, not enqueued yet."""

    @abstractmethod
    def get_job(self, job_id: str) -> Job:
        """The current app's job with this id. Raises JobNotFound."""

    @abstractmethod
    def alert_setting(self) -> Any:
        """The current app's OFFLOAD_ALERT."""

    @abstractmethod
    def find_unique(self, key: str) -> Job | None:
        """The current app's job that holds a unique key."""

    @abstractmethod
    def check_task(self, task: Task[Any, Any]) -> None:
        """Raise UnsupportedByEngine if an app's engine can't keep the task's options."""

    @abstractmethod
    def check_schedule(self, schedule: Schedule) -> None:
        """The same for a schedule."""

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        queue_name: str | Callable[[], str] = "default",
        priority: int | Callable[[], int] = 0,
        max_attempts: int | Callable[[], int] = 1,
        backoff: Backoff | None = None,
        retry_on: type[BaseException] | Sequence[type[BaseException]] = Exception,
        discard_on: type[BaseException] | Sequence[type[BaseException]] = (),
        timeout: float | timedelta | Callable[[], Any] | None = None,
        isolate: bool = False,
        on_crash: Literal["retry", "fail"] = "retry",
        unique: bool | KeyFunction = False,
        unique_for: float | timedelta | None = None,
        unique_states: Iterable[JobStatus | str] | None = None,
        concurrency: int | None = None,
        concurrency_key: KeyFunction | None = None,
        rate: str | Rate | None = None,
        rate_key: KeyFunction | None = None,
        keep: float | timedelta | Mapping[str, float | timedelta] | Callable[[], Any] | None = None,
        result_ttl: float | timedelta | None = None,
        expires: float | timedelta | Callable[[], Any] | None = None,
        on_failure: Callable[[Job], object] | None = None,
        expose: Literal["result"] | None = None,
        expose_args: bool = True,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self, function: Callable[..., Any] | None = None, /, **options: Any
    ) -> Task[..., Any] | Callable[[Callable[..., Any]], Task[..., Any]]:
        """Make a function a task: as `@offload.task`, as `@offload.task(queue_name="mail")`, or as
        `offload.task(function)` for a function from another package.

        Durations are seconds or timedeltas. A value that can't be used raises OptionError here,
        when the task is declared.

        name: replaces the function's own `module.name`.
        queue_name, priority: the defaults of its jobs; `using()` changes them for one call.
        max_attempts (1), backoff (exponential), retry_on (Exception), discard_on: see RetryPolicy.
        timeout (none): after it the job is asked to stop, and OFFLOAD_TIMEOUT_GRACE later killed.
        isolate (False): run each job in a process of its own.
        on_crash ("retry"): run a job again after its worker process died; or "fail".
        unique (False), unique_for, unique_states: return the existing job of the same call, if any.
        concurrency, concurrency_key, rate, rate_key: limits of running jobs and of starts per time.
        keep, result_ttl: how long a finished job and its result are kept.
        expires (never): a job that has not started so long after its enqueue, or after its
        run_after, is discarded.
        on_failure: a function that is called with a job that has FAILED, whatever ended it, in the
        app's context and in a job of its own, which is retried.
        queue_name, priority, max_attempts, timeout, keep and expires may also be functions, which
        are called whenever a job is enqueued: see `from_config`.
        expose: "result" shows the result over HTTP.
        expose_args (True): False keeps the arguments and the result out of the dashboard.
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
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise OptionError(f"{function.__name__} yields, so a call runs nothing of it: return.")
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
            is_for_another = self.apps_made != self._declared_at.get(name)
            if not is_same_declaration(known.function, function, for_another_app=is_for_another):
                raise OptionError(
                    f"two tasks are named {name!r}: give one of them a name of its own (name=…)."
                )
        if is_server_request() and not will_be_known(function, has_options=bool(given)):
            raise OptionError(
                f"{name} is declared while a request is handled, and no worker would know it:"
                " declare it where modules are imported (task = offload.task(…) at the top level)."
            )
        task: Task[..., Any] = Task(self, function, name, options)
        self.check_task(task)
        self.tasks[name] = task
        self._declared_at[name] = self.apps_made
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
        """Run a task without arguments on a schedule: `@offload.every("*/15 * * * *")`.

        when: cron text (five fields, or an alias such as "@hourly"), or a timedelta.
        tz: the time zone of cron text; UTC by default. jitter: seconds; each run is delayed by
        less than that. catch_up: "one" run for all times missed while no worker ran,
        "all" of them, or "none". name: of the schedule; the task's name by default.
        options: those of `@offload.task`. Raises OptionError.
        """

        def decorate(function: Callable[[], R] | Task[[], R]) -> Task[[], R]:
            task = function if isinstance(function, Task) else self._declare(options, function)
            if isinstance(function, Task) and options:
                raise OptionError("give the options to @offload.task, below @offload.every.")
            task.spec.bind((), {})  # refuses a task that can't be called without arguments
            schedule = Schedule(name or task.name, when, tz, jitter, catch_up)
            self.check_schedule(schedule)
            known = self.schedules.get(schedule.name)
            if known is not None and (known[0] != schedule or known[1].name != task.name):
                raise OptionError(
                    f"two schedules are named {schedule.name!r}, with another time or task: give"
                    " one of them a name of its own (name=…)."
                )
            self.schedules[schedule.name] = (schedule, task)
            return task

        return decorate

    def carry(self, name: str) -> Callable[[Callable[[], Any]], Propagator]:
        """Propagate a value from the request to the job: decorate a function that returns a JSON
        value (None: nothing), then one that restores it::

            @offload.carry("tenant")
            def tenant():
                return g.get("tenant")

            @tenant.restore
            def restore_tenant(value):
                g.tenant = value

        The second may return a context manager, which is open while the task runs.
        """

        def decorate(save: Callable[[], Any]) -> Propagator:
            propagator = Propagator(name, save)
            others = [known for known in self.propagators if known.name != name]
            self.propagators = [*others, propagator]
            return propagator

        return decorate

    def codec(
        self,
        type_: type[T],
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        *,
        name: str | None = None,
    ) -> None:
        """Support a type in arguments and results: `encode` returns something that can be encoded,
        such as a dict, and `decode` rebuilds the object from it."""
        self.codecs.register(type_, encode, decode, name=name)

    def authorize(self, function: Callable[[Job], bool]) -> Callable[[Job], bool]:
        """Decorate `may_see(job) -> bool`, which decides in a request who may see a job."""
        self.authorizer = function
        return function

    def dashboard_access(self, function: Access) -> Access:
        """Decorate `may_use() -> bool | str`, which decides in each request to the dashboard who
        may use it: True, "read" (look only), or anything else: the dashboard is not found.

        Without it the dashboard is open in debug mode only, to browsers on this machine.
        """
        self.dashboard_accessor = function
        return function

    def scheduled(self) -> list[tuple[Schedule, NewJob]]:
        """Every schedule, and the job that it enqueues each time. Needs an app context."""
        found = []
        for schedule, task in self.schedules.values():
            new_job = task.call().new_job
            new_job.origin = "schedule"
            found.append((schedule, new_job))
        return found

    def _call_on_failure(self, job_id: str) -> None:
        """Call the `on_failure=` of a job's task."""
        try:
            job = self.get_job(job_id)
        except JobNotFound:
            raise Discard("the failed job is deleted already") from None
        task = self.find_task(job.task)
        if task is None or task.options.on_failure is None:
            raise Discard(f"{job.task} has no on_failure= any more")
        _complete(task.options.on_failure(job))

    def _call_alert(self, task: str, count: int, job_id: str, is_recovered: bool) -> None:
        """Call the app's OFFLOAD_ALERT; if that is a task, enqueue it."""
        setting = self.alert_setting()
        if setting is None:
            raise Discard("the app has no OFFLOAD_ALERT any more")
        error = None
        if not is_recovered:
            with suppress(JobNotFound):
                error = self.get_job(job_id).error
        alert = Alert(task, count, job_id, error, is_recovered)
        called = find_alert(self.tasks, setting)
        if isinstance(called, Task):
            called.enqueue(alert)
        else:
            _complete(called(alert))

    def find_task(self, name: str) -> Task[Any, Any] | None:
        """The task of this name. A plain function of the app's own code is made a task, as it is in
        a web process that enqueues it by `offload.task(function)` inside a view."""
        task = self.tasks.get(name) or self.built_in.get(name)
        if task is None:
            function = find_declared(name)
            task = None if function is None else self._declare({}, function)
        return task


def _complete(called: object) -> None:
    """Run what a function returned, if that is a coroutine."""
    if inspect.iscoroutine(called):
        import asyncio  # only where a function needs it

        asyncio.run(called)


def _options(given: dict[str, Any]) -> TaskOptions:
    """The options of @offload.task, checked and converted. Raises OptionError."""
    options = dict(given)
    options.pop("name", None)
    known = {*TaskOptions.__dataclass_fields__, "max_attempts", "backoff", "retry_on", "discard_on"}
    known -= {"retry", "from_app"}
    for key in options.keys() - known:
        raise OptionError(
            f"@offload.task has no option {key!r}; it has {', '.join(sorted({*known, 'name'}))}."
        )
    options["from_app"] = tuple(
        (key, options.pop(key)) for key in READ_AT_ENQUEUE if callable(options.get(key))
    )
    backoff = options.pop("backoff", None)
    options["retry"] = RetryPolicy(
        max_attempts=options.pop("max_attempts", 1),
        backoff=exponential() if backoff is None else backoff,
        retry_on=_types(options.pop("retry_on", Exception)),
        discard_on=_types(options.pop("discard_on", ())),
    )
    for key in ("timeout", "unique_for", "result_ttl", "expires"):
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
    """Exception types as RetryPolicy takes them."""
    if isinstance(value, type):
        return (value,)
    return tuple(value) if isinstance(value, list | set | frozenset) else value
