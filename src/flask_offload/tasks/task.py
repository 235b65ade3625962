"""A task: a function that may run in the background, and how its calls become jobs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, Protocol, TypeVar

import msgspec
from flask import has_request_context, request

from ..errors import OptionError
from ..jobs.context import called_plainly
from ..jobs.job import Job, JobStatus, new_id
from ..jobs.new_job import NewJob
from ..jobs.options import NONE as NO_OPTIONS
from ..jobs.options import EnqueuedBy, JobOptions
from ..payload.calls import CallSpec, Codecs, Encoded
from ..payload.propagation import Propagator, collect_context, encode_context
from ..payload.spool import Spool
from .options import FromApp, TaskOptions, job_option
from .schedule import run_at

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Owner(Protocol):
    """The part of an Offload that its tasks use."""

    codecs: Codecs
    propagators: list[Propagator]

    def enqueue_call(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job: ...
    def new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob: ...
    def find_unique(self, key: str) -> Job | None: ...


@dataclass(frozen=True, slots=True)
class Using:
    """What `using()` overrides for the jobs of one copy of a task; None: not overridden."""

    queue_name: str | None = None
    priority: int | None = None
    run_after: timedelta | datetime | None = None
    owner: str | None = None
    timeout: float | None = None
    max_attempts: int | None = None
    keep: Mapping[str, float] | None = None
    expires: float | None = None
    after_commit: bool | None = None


class TaskCall(msgspec.Struct, frozen=True):
    """A task with its checked and encoded arguments, for `enqueue_many`."""

    task: Task[Any, Any]
    new_job: NewJob


def _refuses_unknown(using: F) -> F:
    """Give `using` a sentence for what it does not take, in place of Python's TypeError."""
    known = inspect.signature(using).parameters.keys()

    @functools.wraps(using)
    def checked(self: Task[Any, Any], **options: Any) -> Any:
        unknown = ", ".join(f"{name}=" for name in options if name not in known)
        if unknown:
            raise OptionError(
                f"using() does not take {unknown}: it takes {', '.join(sorted(known - {'self'}))}."
                f" What holds for every job of {self.name} belongs to @offload.task(…)."
            )
        return using(self, **options)

    return checked  # type: ignore[return-value]


_ENQUEUE = "write task.enqueue(…)"
_LATER = "write task.using(run_after=timedelta(…)).enqueue(…), or run_after= an aware datetime"
_USING = "write task.using(queue_name=…, priority=…, run_after=…).enqueue(…)"
_RETRY = "write @offload.task(max_attempts=…, backoff=…), or raise Retry(after=…) inside the task"
_CALL = "write offload.enqueue_many([task.call(…), …])"
OTHER_LIBRARIES: Final = {
    "send": _ENQUEUE,
    "queue": _ENQUEUE,
    "enqueue_call": _ENQUEUE,
    "schedule": _LATER,
    "defer": _ENQUEUE,
    "kiq": _ENQUEUE,
    "enqueue_at": _LATER,
    "enqueue_in": _LATER,
    "send_with_options": _USING,
    "configure": _USING,
    "retry": _RETRY,
    "s": _CALL,
    "si": _CALL,
    "signature": _CALL,
    "subtask": _CALL,
    "message": _CALL,
    "map": _CALL,
    "starmap": _CALL,
    "chunks": _CALL,
    "call_local": "call the task itself: task(…)",
    "run": "call the task itself: task(…)",
    "apply": "call the task itself: task(…)",
    "AsyncResult": "write offload.get_job(id)",
    "request": "write current_job inside the task",
    "update_state": "write current_job.progress(done, total) inside the task",
}
"""What to write for a name of Celery, RQ, Huey, Dramatiq or TaskIQ."""


class Task(Generic[P, R]):
    """A function that may run in the background; made by `@offload.task`.

    A call runs it in this thread; `enqueue` runs it in a worker.
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        owner: Owner,
        function: Callable[P, R],
        name: str,
        options: TaskOptions,
        using: Using | None = None,
        spec: CallSpec | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.function = function
        self.options = options
        self.is_async: bool = inspect.iscoroutinefunction(function)
        self.spec: CallSpec = spec or CallSpec(function, name, owner.codecs)
        self.owner = owner
        self.overrides: Using = using or Using()
        self._lane = options.lane(self.is_async)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, as if it were not decorated; progress it reports is discarded."""
        if self.is_async:
            coroutine: Any = self.function(*args, **kwargs)
            return _awaited(self.name, coroutine)  # type: ignore[return-value]
        with called_plainly(self.name):
            return self.function(*args, **kwargs)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue a job with these arguments; returns as soon as the job is stored durably.

        Raises PayloadError when the arguments don't fit the signature or can't be encoded, and
        EngineUnavailable when the job could not be stored.
        """
        return self.owner.enqueue_call(self, args, kwargs)

    delay = enqueue  # Celery's name for it

    def apply_async(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        """Celery's method, whose options have other names here. Raises OptionError."""
        raise OptionError(
            f"{self.name} has no apply_async: write task.using(run_after=…, queue_name=…,"
            " priority=…).enqueue(…), or task.enqueue(…) without options."
        )

    if not TYPE_CHECKING:  # for a type checker a name that does not exist stays an error

        def __getattr__(self, name: str) -> NoReturn:
            """Called for attributes that don't exist; names of other libraries get a sentence."""
            instead = OTHER_LIBRARIES.get(name)
            what = repr(self.__dict__.get("name", "task"))
            raise AttributeError(
                f"the task {what} has no attribute {name!r}" + (f": {instead}" if instead else ""),
                name=name,
                obj=self,
            )

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """This call for `offload.enqueue_many`; raises PayloadError like `enqueue`."""
        return TaskCall(self, self.owner.new_job(self, args, kwargs))

    def find(self, /, *args: P.args, **kwargs: P.kwargs) -> Job | None:
        """Of a unique task: the READY or RUNNING job of this call, or None.

        Raises OptionError for a task without unique=, and PayloadError like `enqueue`.
        """
        if not self.options.unique:
            raise OptionError(
                f"{self.name}.find() needs unique=: write @offload.task(unique=True), or look with"
                " offload.jobs(task=…)"
            )
        found = self.owner.find_unique(self._unique_key(args, kwargs))
        return None if found is None or found.is_finished else found

    @_refuses_unknown
    def using(
        self,
        *,
        queue_name: str | None = None,
        priority: int | None = None,
        run_after: timedelta | datetime | None = None,
        owner: str | None = None,
        timeout: float | timedelta | None = None,
        max_attempts: int | None = None,
        keep: float | timedelta | Mapping[str, float | timedelta] | None = None,
        expires: float | timedelta | None = None,
        after_commit: bool | None = None,
    ) -> Task[P, R]:
        """A copy of the task with other options for its jobs.

        queue_name: another queue. priority: -100 to 100, higher runs first. run_after: a timedelta
        from the enqueue, or an aware datetime. owner: whom the job belongs to, for `authorize`.
        timeout, max_attempts, keep: in place of the task's. expires: seconds or a timedelta from
        the enqueue, or from run_after: a job that has not started by then is discarded.
        after_commit: True: the job belongs to the session's transaction also if that has not
        written yet; False: it does not.
        Raises OptionError. For what the app's engine does not support, `enqueue` and `call` raise
        UnsupportedByEngine.
        """
        run_at(run_after, 0.0)  # refuses naive datetimes now, not at the enqueue
        if owner is not None and (not isinstance(owner, str) or not owner):
            raise OptionError(f'owner={owner!r}: give a text such as "user:7".')
        given = {
            "queue_name": queue_name,
            "priority": priority,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "keep": keep,
            "expires": expires,
        }
        changes = {
            name: job_option(name, value) for name, value in given.items() if value is not None
        }
        others = {"run_after": run_after, "owner": owner, "after_commit": after_commit}
        changes |= {name: value for name, value in others.items() if value is not None}
        using = replace(self.overrides, **changes)
        return Task(self.owner, self.function, self.name, self.options, using, self.spec)

    def new_job(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        limit: int,
        spool: Spool | None,
        now: float,
    ) -> NewJob:
        """The job of one call. limit: bytes of the encoded arguments. spool: where uploaded files
        go. now: unix seconds. Raises PayloadError."""
        encoded = self.spec.encode(args, kwargs, limit=limit, spool=spool)
        try:
            return self._build(encoded, args, kwargs, now)
        except BaseException:  # a key function or a propagator failed: no job, so no files
            if spool is not None:
                spool.remove(encoded.files)
            raise

    def _build(
        self, encoded: Encoded, args: tuple[Any, ...], kwargs: dict[str, Any], now: float
    ) -> NewJob:
        options, using = self.options, self.overrides
        if options.from_app:
            using = _filled_in(using, options.from_app)
        carried = collect_context(self.owner.propagators)
        job = NewJob(
            id=new_id(),
            task=self.name,
            queue_name=using.queue_name or options.queue_name,
            priority=options.priority if using.priority is None else using.priority,
            enqueued_at=now,
            args=encoded.data.decode(),
            lane=self._lane,
            on_crash=options.on_crash,
            owner=using.owner,
            context=encode_context(carried),
            files=encoded.files,
            enqueued_by=_this_request(carried),
        )
        if using.run_after is not None:
            job.run_after = run_at(using.run_after, now)
        job.options = self._own_options(using, now, job.run_after)
        if options.unique or options.concurrency or options.rate:
            self._add_keys(job, args, kwargs)
        return job

    def _own_options(self, using: Using, now: float, run_after: float | None) -> JobOptions | None:
        expires = self.options.expires if using.expires is None else using.expires
        if expires is not None and run_after is not None:
            expires += max(0.0, run_after - now)
        own = JobOptions(
            timeout=using.timeout,
            max_attempts=using.max_attempts,
            keep=using.keep,
            expires=expires,
        )
        return None if own == NO_OPTIONS else own

    def _add_keys(self, job: NewJob, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        options = self.options
        if options.unique:
            job.unique_key = self._unique_key(args, kwargs)
            job.unique_for = options.unique_for
            job.unique_states = options.unique_states
        if options.concurrency:
            job.concurrency = options.concurrency
            job.concurrency_key = self._key(options.concurrency_key, args, kwargs)
        if options.rate:
            job.rate = options.rate
            job.rate_key = self._key(options.rate_key, args, kwargs)

    def _unique_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if callable(self.options.unique):
            key = str(self.options.unique(*args, **kwargs))
        else:
            key = self.spec.fingerprint(args, kwargs)
        return f"{self.name}:{key}"

    def _key(
        self, function: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        return self.name if function is None else f"{self.name}:{function(*args, **kwargs)}"


def _this_request(carried: dict[str, Any]) -> EnqueuedBy | None:
    """What is recorded of the request that enqueues a job. carried: the propagated values."""
    if not has_request_context():
        return None
    traceparent = (carried.get("trace") or {}).get("traceparent", "")
    return EnqueuedBy(
        route=request.endpoint,
        user=carried.get("user_id"),
        trace=traceparent[3:35] or carried.get("request_id"),
    )


def _filled_in(using: Using, from_app: FromApp) -> Using:
    """With the options that the task's functions return, where `using()` has none."""
    missing = [(name, read) for name, read in from_app if getattr(using, name) is None]
    return replace(using, **{name: job_option(name, read()) for name, read in missing})


async def _awaited(task: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with called_plainly(task):
        return await coroutine


def unique_states(states: Iterable[JobStatus | str] | None) -> frozenset[JobStatus] | None:
    """Check and convert `unique_states=`. Raises OptionError."""
    if states is None:
        return None
    try:
        return frozenset(map(JobStatus, [states] if isinstance(states, str) else states))
    except (TypeError, ValueError) as error:
        names = ", ".join(JobStatus)
        raise OptionError(f"unique_states={states!r}: {error}; the statuses are {names}.") from None
