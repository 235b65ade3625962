"""What `flask offload check` tells of the Celery engine."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from flask_offload.engines.base import Finding, JobQuery, QueueInfo
from flask_offload.engines.findings import unknown_tasks
from flask_offload.errors import EngineUnavailable
from flask_offload.jobs.job import JobStatus
from flask_offload.textui import duration, show_jobs

from .connections import Office
from .deadline import Deadline
from .maintenance import ROUND
from .setup import settle_worker, warnings_about

LATE: Final = 30.0
"""Seconds that a living worker gets to notice what came due."""
SLOW: Final = 90.0
"""The same for a schedule: a worker looks at least once a minute."""


@dataclass
class Worker:
    """A worker that was seen to be alive, as it describes itself."""

    id: str
    host: str
    pid: int
    capacity: int
    queues: list[str] | None

    def serves(self, queue_name: str) -> bool:
        """Whether it takes jobs of this queue."""
        return self.queues is None or queue_name in self.queues

    def __str__(self) -> str:
        queues = ", ".join(self.queues) if self.queues else "all queues"
        machine = self.host.partition(":")[0]
        return f"{self.id} (process {self.pid} on {machine}, {queues}, {self.capacity} at once)"


@dataclass
class Situation:
    """What was found; now in unix seconds."""

    now: float
    workers: list[Worker] = field(default_factory=list)
    queues: list[QueueInfo] = field(default_factory=list)


def look_into(office: Office) -> list[Finding]:
    """Every finding, in a fixed order. Each call of Redis and of the broker is bounded."""
    findings = [*_settings(office), *_outbox(office), *_broker(office)]
    situation = Situation(office.host.clock())
    try:
        findings += _records(office)
        situation.queues = list(office.host.engine.queues())
        situation.workers = live_workers(office)
        for check in (_workers, _queues, _tasks, _due, _schedules):
            findings += check(office, situation)
    except EngineUnavailable as error:
        findings.append(Finding("records", "problem", str(error)))
    return findings


def live_workers(office: Office) -> list[Worker]:
    """Those that give signs of life while we look, which takes a little more than a second."""
    before = _beats(office)
    if not before:
        return []
    time.sleep(2 * ROUND + 0.2)
    after = _beats(office)
    known = office.bounded(lambda: office.ledger.ask("HGETALL", "workers"))
    found = []
    for worker, beat in sorted(after.items()):
        if worker in known and beat != before.get(worker):
            text = json.loads(known[worker])
            about = {name: text[name] for name in ("host", "pid", "capacity", "queues")}
            found.append(Worker(worker, **about))
    return found


def _beats(office: Office) -> dict[str, str]:
    beats: dict[str, str] = office.bounded(lambda: office.ledger.ask("HGETALL", "beats"))
    return beats


# --- what it is made of ------------------------------------------------------------------------


def _settings(office: Office) -> Iterator[Finding]:
    settle_worker(office.celery, office.host)  # as a worker does; what it sets is no worry
    for warning in warnings_about(office.celery, office.host):
        yield Finding("settings", "note", warning)


def _outbox(office: Office) -> Iterator[Finding]:
    if office.outbox is not None:
        waiting = office.outbox.count()
        told = f"{show_jobs(waiting)} wait until Redis and the broker can be reached"
        yield Finding("outbox", "note" if waiting else "ok", told if waiting else "empty")


def _broker(office: Office) -> Iterator[Finding]:
    timeout = office.host.config.enqueue_timeout
    deadline = Deadline(timeout, f"Celery's broker at {office.broker.place}")
    queue = office.celery.conf.task_default_queue
    try:
        deadline.run(lambda _: office.broker.depth(queue))
        yield Finding("broker", "ok", office.broker.place)
    except EngineUnavailable as error:
        yield Finding("broker", "problem", str(error))


def _records(office: Office) -> Iterator[Finding]:
    told = office.bounded(office.ledger.info)
    place = f"Redis {told.get('redis_version', '')} at {office.ledger.place}"
    problems = list(_unsafe(told))
    yield from (Finding("records", "problem", f"{place}: {text}") for text in problems)
    if not problems:
        is_logged = told.get("aof_enabled", 1)
        loss = ", without appendonly: when Redis or its host dies, the newest jobs may be lost"
        yield Finding("records", "ok" if is_logged else "note", place + ("" if is_logged else loss))


def _unsafe(told: dict[str, Any]) -> Iterator[str]:
    policy = told.get("maxmemory_policy", "noeviction")
    if told.get("maxmemory") and policy != "noeviction":
        yield f"it throws jobs away when its memory is full (maxmemory-policy {policy}): noeviction"
    if told.get("role") == "slave":
        yield "it is a replica, which takes no writes: give the URL of its master"


# --- the work ----------------------------------------------------------------------------------


def _workers(office: Office, at: Situation) -> Iterator[Finding]:
    if at.workers:
        yield Finding("worker", "ok", "; ".join(map(str, at.workers)))
    else:
        ready = sum(queue.ready for queue in at.queues)
        waiting = f" and {show_jobs(ready)} wait" if ready else ""
        message = f"none runs{waiting}: start `flask offload worker`"
        yield Finding("worker", "problem", message)


def _queues(office: Office, at: Situation) -> Iterator[Finding]:
    findings = []
    for queue in at.queues:
        served = any(worker.serves(queue.name) for worker in at.workers)
        if queue.paused_at is not None:
            since = duration(max(0.0, at.now - queue.paused_at))
            message = f"{queue.name} is paused for {since}, with {show_jobs(queue.ready)} waiting"
            findings.append(Finding("queues", "note", message))
        elif queue.ready and at.workers and not served:
            message = f"no running worker serves {queue.name}, while {show_jobs(queue.ready)} in it"
            told = f"{message} wait: start one with --queue {queue.name}"
            findings.append(Finding("queues", "problem", told))
    names = ", ".join(queue.name for queue in at.queues) or "none used yet"
    yield from findings or [Finding("queues", "ok", names)]


def _tasks(office: Office, at: Situation) -> Iterator[Finding]:
    """Among the newest waiting jobs, those whose task this app does not have."""
    waiting = office.host.engine.list(JobQuery(status=JobStatus.READY, limit=1000))
    return unknown_tasks(Counter(job.task for job in waiting), office.host.registry.find_task)


def _due(office: Office, at: Situation) -> Iterator[Finding]:
    """Work that a living worker should have seen to."""
    first = ("ZRANGE", "due", 0, 0, "WITHSCORES"), ("ZRANGE", "unsent", 0, 0, "WITHSCORES")
    due, unsent = office.bounded(lambda: office.ledger.ask_all(first))
    findings = []
    for found, what in ((due, "a scheduled job is"), (unsent, "the message of a job is")):
        late = at.now - float(found[0][1]) if found else 0.0
        if late > LATE and at.workers:
            message = f"{what} {duration(late)} late, though a worker runs: is the broker down?"
            findings.append(Finding("waiting", "problem", message))
    yield from findings or [Finding("waiting", "ok", "nothing is late")]


def _schedules(office: Office, at: Situation) -> Iterator[Finding]:
    findings = []
    for info in office.host.engine.schedules():
        if info.name not in office.host.registry.schedules:
            message = f"{info.name} is no longer declared in this app: nothing runs it"
            findings.append(Finding("schedules", "note", message))
        elif at.workers and info.next_run is not None and info.next_run < at.now - SLOW:
            late = duration(at.now - info.next_run)
            message = f"{info.name} is {late} late: no worker has it"
            findings.append(Finding("schedules", "problem", message))
    declared = f"{len(office.host.registry.schedules)} declared"
    yield from findings or [Finding("schedules", "ok", declared)]
