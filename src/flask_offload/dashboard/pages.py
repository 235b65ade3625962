"""The pages of the dashboard: each reads the engine, what its flags allow, and renders."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from flask import request

from ..engines.base import LOOK, FailureGroup, JobQuery, ScheduleInfo
from ..engines.store import WorkerInfo
from ..errors import JobNotFound, OffloadError
from ..jobs.job import JobRecord, JobStatus
from ..jobs.log_line import log_lines
from ..profiler import route_rows, spot_rows
from ..state import AppRegistry
from ..textui import ago, duration
from .bulk import FURTHER, possible
from .charts import RANGES, charts, per_minute
from .filters import PAGE, WITHIN, Filters
from .forms import SENTENCES, page
from .masking import Masking
from .schedules import known_schedules
from .shown import Room, printable

T = TypeVar("T")

FIRST_LOOK = 300
"""Jobs that a page looks at when it is asked for first, so that it takes as long as any other."""
FEW = 5
MANY = 30
RUNNING_SHOWN = 200
LINES_SHOWN = 200
"""Lines of a job's log on its page."""
ARGUMENTS_SHOWN = 40
ATTEMPTS_SHOWN = 20
SHOWN = 80
"""Rows of any other table on one page."""


class JobRow(NamedTuple):
    """A job in the list, in texts."""

    status: str
    id: str
    task: str
    queue: str
    enqueued: str
    ran: str
    says: str


def _row(record: JobRecord, now: float) -> JobRow:
    began, ended = record.started_at, record.finished_at
    says = record.message or (f"waits for {record.waiting_for}" if record.waiting_for else "")
    if record.error is not None and record.status is not JobStatus.SUCCESSFUL:
        says = f"{record.error.type}: {record.error.message}"
    return JobRow(
        record.status.lower(),
        record.id,
        record.task,
        record.queue_name,
        ago(now - record.enqueued_at),
        "" if began is None or ended is None else duration(ended - began),
        printable(says[:300]),
    )


class Pages:
    """The handlers of GET."""

    def __init__(self, offload: AppRegistry) -> None:
        self._offload = offload

    # --- overview ---

    def overview(self) -> str:
        """How things stand, with links to what may need attention."""
        engine, now = self._offload.engine, time.time()
        flags = engine.flags
        counts = engine.count() if flags.lists else {}
        since = engine.waiting_since() if counts.get(JobStatus.READY) else None
        shown = request.args.get("range", "1h")
        shown = shown if shown in RANGES else "1h"
        rows = engine.counters(now - RANGES[shown][0]) if flags.counters else ()
        return page(
            "overview",
            charts=charts(rows, shown) if flags.counters else (),
            ranges=RANGES,
            shown=shown,
            per_minute=per_minute(rows) if flags.counters else None,
            counts=counts,
            waited=None if since is None else max(0.0, now - since),
            workers=self._workers_in_short(),
            failures=self._failures()[:FEW],
            schedules=self._next_schedules()[:FEW],
            routes=self._routes()[:FEW],
            queues=[q for q in engine.queues() if q.paused_at][:SHOWN] if flags.pauses else [],
        )

    def _workers_in_short(self) -> list[tuple[WorkerInfo, list[JobRecord]]] | None:
        workers = self._workers()
        return None if workers is None else workers[:MANY]

    def _next_schedules(self) -> list[ScheduleInfo]:
        return sorted(
            (schedule for schedule in self._schedules() if schedule.next_run is not None),
            key=lambda schedule: schedule.next_run or 0.0,
        )

    # --- jobs ---

    def jobs(self) -> str:
        """The list, narrowed by filters, in pages that begin at a job."""
        chosen, now = Filters.of(request.args), time.time()
        after = request.args.get("after")
        done = request.args.get("done", "")
        is_further = "further" in request.args
        query = chosen.query(limit=PAGE, after=after)
        look = FURTHER if is_further else FIRST_LOOK
        found = self._offload.engine.page(query, look)
        return page(
            "jobs",
            filters=chosen,
            chosen=chosen.chosen(),
            found=found,
            after=after,
            actions=possible(self._offload.engine, chosen),
            look=look,
            is_further=is_further,
            rows=[_row(record, now) for record in found.jobs if self._shows(record, chosen.text)],
            statuses=list(JobStatus),
            within=WITHIN,
            tasks=sorted(self._offload.tasks),
            done=SENTENCES.get(done),
        )

    def _shows(self, record: JobRecord, text: str) -> bool:
        """Whether a searched text is in what the page of the job shows."""
        if not text:
            return True
        errors = [attempt.error for attempt in record.attempts if attempt.error is not None]
        texts = [record.message or "", *(f"{e.type}\n{e.message}" for e in errors)]
        if any(text.lower() in each.lower() for each in texts):
            return True
        task = self._offload.tasks.get(record.task)
        if record.origin == "respond_async":
            return False
        try:
            stored = self._offload.engine.arguments(record.id)
        except JobNotFound:
            return False
        return self._masking().shows(stored, task, text)

    def job(self, job_id: str) -> str:
        """One job, with all that is known about it."""
        engine = self._offload.engine
        record = engine.get(self._full_id(job_id))
        task = self._offload.tasks.get(record.task)
        masking = self._masking()
        arguments: list[tuple[str, str]] | None = None
        if record.origin == "respond_async":
            arguments = self._request_of(record)
        elif engine.flags.lists:
            arguments = masking.arguments(engine.arguments(record.id), task)
        is_reply = record.origin == "respond_async"
        return page(
            "job",
            job=self._offload.current_state().job(record),
            done=SENTENCES.get(request.args.get("done", "")),
            arguments=arguments,
            result=None if is_reply else masking.result(record.result, task),
            is_hidden=task is not None and not task.options.expose_args,
            is_known=task is not None,
            checkpoint=masking.result(engine.checkpoint(record.id), task),
            log=log_lines(engine.log(record.id))[-LINES_SHOWN:] if engine.flags.logs else None,
            room=Room(),
            arguments_shown=ARGUMENTS_SHOWN,
            attempts_shown=ATTEMPTS_SHOWN,
            schedules=self._schedules_of(record),
        )

    def _schedules_of(self, record: JobRecord) -> list[ScheduleInfo]:
        """The schedule that made a job; those that may have, where it was not the last job of one
        and its task has several."""
        if record.origin != "schedule":
            return []
        found = [each for each in self._schedules() if each.task == record.task]
        return [each for each in found if each.last_job == record.id] or found

    def _full_id(self, job_id: str) -> str:
        """The id that begins so, if there is one only."""
        if len(job_id) < 44:
            found = self._offload.engine.ids(job_id)
            if len(found) == 1:
                return found[0]
        return job_id

    def _request_of(self, record: JobRecord) -> list[tuple[str, str]]:
        """The request that a job of respond_async runs; its body may be anything, and is not
        shown."""
        environ = _find_environ(json.loads(self._offload.engine.arguments(record.id)))
        if environ is None:
            return []
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        return [("request", f"{environ['REQUEST_METHOD']} {path}")]

    def _masking(self) -> Masking:
        return Masking(self._offload.current_state().config.dashboard_mask)

    # --- failures, queues, schedules, workers, routes ---

    def failures(self) -> str:
        """The newest failed jobs by task and exception."""
        failures, next_rows = _rows_here(self._failures())
        return page("failures", failures=failures, next_rows=next_rows, look=LOOK)

    def _failures(self) -> Sequence[FailureGroup]:
        engine = self._offload.engine
        return engine.failures(LOOK) if engine.flags.lists else ()

    def queues(self) -> str:
        """Every queue, with its waiting and running jobs."""
        done = SENTENCES.get(request.args.get("done", ""))
        queues, next_rows = _rows_here(list(self._offload.engine.queues()))
        return page("queues", queues=queues, next_rows=next_rows, done=done)

    def schedules(self) -> str:
        """Every schedule: when it ran last, and when it runs next."""
        done = SENTENCES.get(request.args.get("done", ""))
        schedules, next_rows = _rows_here(self._schedules())
        known = self._offload.schedules
        return page(
            "schedules", schedules=schedules, next_rows=next_rows, declared=known, done=done
        )

    def _schedules(self) -> Sequence[ScheduleInfo]:
        state = self._offload.current_state()
        return known_schedules(state) if state.engine.flags.schedules else ()

    def workers(self) -> str:
        """The workers, their places, and what they run now."""
        done = SENTENCES.get(request.args.get("done", ""))
        workers = self._workers()
        shown, next_rows = _rows_here(workers or [])
        return page(
            "workers", workers=None if workers is None else shown, next_rows=next_rows, done=done
        )

    def _workers(self) -> list[tuple[WorkerInfo, list[JobRecord]]] | None:
        """The workers that are alive with the jobs that they run; None where the engine does not
        know them."""
        engine = self._offload.engine
        if not engine.flags.own_worker:
            return None
        running = defaultdict(list)
        query = JobQuery(status=JobStatus.RUNNING, limit=RUNNING_SHOWN)
        for record in engine.page(query).jobs:
            running[record.worker].append(record)
        return [(worker, running[worker.id]) for worker in engine.workers()]

    def routes(self) -> str:
        """What the profiler has found: the routes that block, the worst first."""
        state = self._offload.current_state()
        path = state.profiler_settings().store_path
        timed = []
        with contextlib.suppress(OffloadError):
            timed = route_rows(path) if path else []
        tasks, next_rows = _rows_here(sorted(self._offload.tasks), 4 * SHOWN)
        routes = self._routes()[:MANY]
        return page("routes", routes=routes, timed=timed, tasks=tasks, next_rows=next_rows)

    def _routes(self) -> list[Any]:
        path = self._offload.current_state().profiler_settings().store_path
        with contextlib.suppress(OffloadError):
            own = f" {self._offload.current_state().config.url_prefix}/"
            return [row for row in spot_rows(path) if own not in row.route] if path else []
        return []


def _rows_here(rows: Sequence[T], size: int = SHOWN) -> tuple[Sequence[T], int | None]:
    """The rows of this page of a table; where the next page begins, None at the end."""
    start = max(0, request.args.get("from", 0, type=int))
    end = start + size
    return rows[start:end], end if len(rows) > end else None


def _find_environ(value: Any) -> dict[str, str] | None:
    """The part of a stored request that says its method and its path."""
    if isinstance(value, dict) and "REQUEST_METHOD" in value:
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_find_environ, inner)), None)
