"""`GET /offload/metrics` in Prometheus' text format. All figures come from the store, so that they
are right whichever of several web processes answers."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from flask import Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ..engines.base import Engine
from ..engines.counter_row import BOUNDS, ENQUEUE_BOUNDS, CounterRow, EnqueueTimes
from ..jobs.attempt import Ending
from ..jobs.job import JobStatus
from ..state import AppRegistry


def metrics(offload: AppRegistry) -> Response:
    """The figures, for a scraper that has the token if there is one."""
    state = offload.current_state()
    token = state.config.metrics
    if isinstance(token, str) and not _has(token):
        return Response(status=401, headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(StoreCollector(state.engine))
    data = generate_latest(registry)
    headers = {"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE_LATEST}
    return Response(data, headers=headers)


def _has(token: str) -> bool:
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), token.encode())


class StoreCollector(Collector):
    """What an engine's store knows, as far as its flags allow."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Read it. Raises EngineUnavailable."""
        flags = self._engine.flags
        if flags.lists:
            yield from self._queues()
        if flags.own_worker:
            yield from self._workers()
        if flags.counters:
            yield from attempts(self._engine.totals())
            yield enqueues(self._engine.enqueue_times())

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering a collector must not read the store."""
        return ()

    def _queues(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "offload_queue_jobs", "Jobs that wait or run", labels=["queue", "status"]
        )
        paused = GaugeMetricFamily(
            "offload_queue_paused", "1 while the queue is paused", labels=["queue"]
        )
        for queue in self._engine.queues():
            jobs.add_metric([queue.name, "ready"], queue.ready)
            jobs.add_metric([queue.name, "running"], queue.running)
            paused.add_metric([queue.name], float(queue.paused_at is not None))
        since = self._engine.waiting_since()
        waited = 0.0 if since is None else max(0.0, time.time() - since)
        oldest = "Seconds that the first job in line has waited; 0 if none waits"
        yield from (jobs, paused)
        yield GaugeMetricFamily("offload_oldest_job_seconds", oldest, value=waited)

    def _workers(self) -> Iterator[Metric]:
        alive = self._engine.workers()
        places = sum(worker.capacity for worker in alive)
        yield GaugeMetricFamily("offload_workers", "Workers that are alive", value=len(alive))
        yield GaugeMetricFamily("offload_worker_places", "Jobs that they can run", value=places)


def attempts(rows: Sequence[CounterRow]) -> Iterator[Metric]:
    """What became of attempts."""
    finished = CounterMetricFamily(
        "offload_jobs_finished", "Jobs that have ended", labels=["task", "status"]
    )
    ended = CounterMetricFamily("offload_attempts", "Attempts", labels=["task", "outcome"])
    crashes = CounterMetricFamily("offload_crashes", "Attempts whose process died", labels=["task"])
    ran = HistogramMetricFamily(
        "offload_attempt_duration_seconds", "How long attempts ran", labels=["task", "outcome"]
    )
    waited = HistogramMetricFamily(
        "offload_job_wait_seconds",
        "How long jobs waited for their first attempt, from when they were due",
        labels=["task"],
    )
    for (task, status), group in _by(rows, lambda row: (row.task, row.status)).items():
        if JobStatus(status).is_finished:
            finished.add_metric([task, status.lower()], sum(row.attempts for row in group))
    rows = [row for row in rows if row.ending is not None]
    for (task, ending), group in _by(rows, lambda row: (row.task, row.ending or "")).items():
        ended.add_metric([task, ending.lower()], sum(row.attempts for row in group))
        if ending == Ending.CRASHED:
            crashes.add_metric([task], sum(row.attempts for row in group))
        buckets = _buckets([row.ran_up_to for row in group])
        ran.add_metric([task, ending.lower()], buckets, sum(row.ran for row in group))
    for (task, _), group in _by(rows, lambda row: (row.task, "")).items():
        buckets = _buckets([row.waited_up_to for row in group])
        waited.add_metric([task], buckets, sum(row.waited for row in group))
    yield from (finished, ended, crashes, ran, waited)


def enqueues(times: EnqueueTimes) -> Metric:
    """How long the store took to accept jobs."""
    found = HistogramMetricFamily(
        "offload_enqueue_duration_seconds",
        "How long the store took to accept what one call enqueued, one job or many",
    )
    found.add_metric([], _buckets([times.up_to], ENQUEUE_BOUNDS), times.seconds)
    return found


def _by(
    rows: Sequence[CounterRow], key: Callable[[CounterRow], tuple[str, str]]
) -> dict[tuple[str, str], list[CounterRow]]:
    groups: dict[tuple[str, str], list[CounterRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _buckets(
    counts: Sequence[Sequence[int]], bounds: Sequence[float] = BOUNDS
) -> list[tuple[str, float]]:
    """Cumulated, as Prometheus wants them."""
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    sums = accumulate(sum(column) for column in zip(*counts, strict=True))
    return [(name, float(number)) for name, number in zip(names, sums, strict=True)]
