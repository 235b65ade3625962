"""`flask offload worker` on the Celery engine: a Celery worker, set up so that no job gets lost."""

from __future__ import annotations

import logging

from flask_offload.engines.base import WorkOptions
from flask_offload.errors import EngineUnavailable
from flask_offload.jobs import log

from .connections import Office
from .setup import settle_worker, warnings_about
from .worker import QUIET, Shift


def work(office: Office, options: WorkOptions) -> int:
    """Be a worker until told to stop; the exit code. Raises ConfigError."""
    celery, host = office.celery, office.host
    settle_worker(celery, host)
    for warning in warnings_about(celery, host):
        log.write(logging.WARNING, "celery_setting", "%s", warning)
    log.add_job_fields()
    if options.log_level != "debug":
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)  # our own lines tell it already
    processes = options.processes or host.config.worker_processes
    threads = options.threads or host.config.worker_threads
    shift = Shift(office, options, capacity=processes * threads)
    worker = celery.Worker(
        hostname=f"{shift.crew.seat.id}@%h",
        loglevel=options.log_level.upper(),
        concurrency=shift.crew.seat.capacity,
        queues=_queues(office, options),
        **QUIET,
    )
    worker.start()
    shift.end()
    return int(worker.exitcode or 0)


def _queues(office: Office, options: WorkOptions) -> list[str]:
    """The queues to serve from the first moment; others are found while at work."""
    celery, host = office.celery, office.host
    if options.queues is not None:
        names = set(options.queues)
    else:
        declared = {task.options.queue_name for task in host.registry.tasks.values()}
        conf = celery.conf
        names = {"default", conf.task_default_queue, *declared}
        names |= {queue.name for queue in conf.task_queues or ()}
        try:
            names |= {queue.name for queue in host.engine.queues()}
        except EngineUnavailable as error:
            log.write(logging.ERROR, "records_unavailable", "%s. The worker goes on trying", error)
    for name in names:
        celery.amqp.queues.add(office.broker.queue(name))
    return sorted(names)
