"""What `flask offload check` reports of the Celery engine."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from flask_offload.engine_api import (
    Finding,
    JobQuery,
    JobStatus,
    QueueInfo,
    duration,
    schedule_findings,
    unknown_tasks,
)
from flask_offload.errors import EngineUnavailable

from .connections import Connections
from .maintenance import ROUND
from .setup import configure_worker, warnings_about

LATE: Final = 30.0
"""Seconds in which a running worker starts or sends what is due."""
SLOW: Final = 90.0
"""The same for a schedule: a worker checks it at least once a minute."""


@dataclass
class LiveWorker:
    """A worker that has sent a heartbeat during the check, as it describes itself."""

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
class Overview:
    """What the checks look at. now: unix seconds."""

    now: float
    workers: list[LiveWorker] = field(default_factory=list)
    queues: list[QueueInfo] = field(default_factory=list)


def findings_of(connections: Connections) -> list[Finding]:
    """Every finding, in a fixed order. Each call of Redis and of the broker is bounded."""
    findings = [*_settings(connections), *_outbox(connections), *_broker(connections)]
    overview = Overview(connections.host.clock())
    try:
        findings += _records(connections)
        overview.queues = list(connections.host.engine.queues())
        overview.workers = live_workers(connections)
        for check in (_workers, _queues, _tasks, _due, _schedules):
            findings += check(connections, overview)
    except EngineUnavailable as error:
        findings.append(Finding("records", "problem", str(error)))
    return findings


def live_workers(connections: Connections) -> list[LiveWorker]:
    """Workers that send a heartbeat now; waits for it a little more than a second."""
    before = _beats(connections)
    if not before:
        return []
    time.sleep(2 * ROUND + 0.2)
    after = _beats(connections)
    known = connections.bounded(lambda: connections.store.ask("HGETALL", "workers"))
    found = []
    for worker, beat in sorted(after.items()):
        if worker in known and beat != before.get(worker):
            text = json.loads(known[worker])
            about = {name: text[name] for name in ("host", "pid", "capacity", "queues")}
            found.append(LiveWorker(worker, **about))
    return found


def _beats(connections: Connections) -> dict[str, str]:
    beats: dict[str, str] = connections.bounded(lambda: connections.store.ask("HGETALL", "beats"))
    return beats


def waits(count: int) -> str:
    """ "1 job waits" or "2 jobs wait"."""
    return "1 job waits" if count == 1 else f"{count} jobs wait"


# --- settings and servers ------------------------------------------------------------------------


def _settings(connections: Connections) -> Iterator[Finding]:
    configure_worker(connections.celery, connections.host)  # as a worker does
    for warning in warnings_about(connections.celery, connections.host):
        yield Finding("settings", "note", warning)


def _outbox(connections: Connections) -> Iterator[Finding]:
    if connections.outbox is not None:
        waiting = connections.outbox.count()
        message = f"{waits(waiting)} until Redis and the broker can be reached"
        yield Finding("outbox", "note" if waiting else "ok", message if waiting else "empty")


def _broker(connections: Connections) -> Iterator[Finding]:
    queue = connections.celery.conf.task_default_queue
    try:
        connections.deadline.run(lambda: connections.broker.depth(queue))
        yield Finding("broker", "ok", connections.broker.place)
    except EngineUnavailable as error:
        yield Finding("broker", "problem", str(error))


def _records(connections: Connections) -> Iterator[Finding]:
    info = connections.bounded(connections.store.info)
    place = f"Redis {info.get('redis_version', '')} at {connections.store.place}"
    problems = list(_unsafe(info))
    yield from (Finding("records", "problem", f"{place}: {text}") for text in problems)
    if not problems:
        is_logged = info.get("aof_enabled", 1)
        loss = ", without appendonly: when Redis or its host dies, the newest jobs may be lost"
        yield Finding("records", "ok" if is_logged else "note", place + ("" if is_logged else loss))


def _unsafe(info: dict[str, Any]) -> Iterator[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield f"it deletes jobs when its memory is full (maxmemory-policy {policy}): noeviction"
    if info.get("role") == "slave":
        yield "it is a replica, which takes no writes: give the URL of its master"


# --- jobs and workers ---------------------------------------------------------------------------


def _workers(connections: Connections, at: Overview) -> Iterator[Finding]:
    if at.workers:
        yield Finding("worker", "ok", "; ".join(map(str, at.workers)))
    else:
        ready = sum(queue.ready for queue in at.queues)
        waiting = f" and {waits(ready)}" if ready else ""
        message = f"none runs{waiting}: start `flask offload worker`"
        yield Finding("worker", "problem", message)


def _queues(connections: Connections, at: Overview) -> Iterator[Finding]:
    findings = []
    for queue in at.queues:
        served = any(worker.serves(queue.name) for worker in at.workers)
        if queue.paused_at is not None:
            since = duration(max(0.0, at.now - queue.paused_at))
            message = f"{queue.name} is paused for {since}, while {waits(queue.ready)}"
            findings.append(Finding("queues", "note", message))
        elif queue.ready and at.workers and not served:
            message = f"no running worker serves {queue.name}, where {waits(queue.ready)}"
            remedy = f"start one with --queue {queue.name}"
            findings.append(Finding("queues", "problem", f"{message}: {remedy}"))
    names = ", ".join(queue.name for queue in at.queues) or "none used yet"
    yield from findings or [Finding("queues", "ok", names)]


def _tasks(connections: Connections, at: Overview) -> Iterator[Finding]:
    """Among the newest waiting jobs, those whose task this app does not have."""
    waiting = connections.host.engine.list(JobQuery(status=JobStatus.READY, limit=1000))
    return unknown_tasks(Counter(job.task for job in waiting), connections.host.registry.find_task)


def _due(connections: Connections, at: Overview) -> Iterator[Finding]:
    """Jobs and messages that a running worker should have handled."""
    first = ("ZRANGE", "due", 0, 0, "WITHSCORES"), ("ZRANGE", "unsent", 0, 0, "WITHSCORES")
    due, unsent = connections.bounded(lambda: connections.store.ask_all(first))
    findings = []
    for found, what in ((due, "a scheduled job is"), (unsent, "the message of a job is")):
        late = at.now - float(found[0][1]) if found else 0.0
        if late > LATE and at.workers:
            message = f"{what} {duration(late)} late, though a worker runs: is the broker down?"
            findings.append(Finding("waiting", "problem", message))
    yield from findings or [Finding("waiting", "ok", "nothing is late")]


def _schedules(connections: Connections, at: Overview) -> Iterator[Finding]:
    host, late = connections.host, at.now - SLOW if at.workers else None
    yield from schedule_findings(host.engine.schedules(), host.registry.schedules, at.now, late)
