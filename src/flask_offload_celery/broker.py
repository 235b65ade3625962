"""Sends the messages that ask a worker to run a job, as Celery itself sends them."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from celery import Celery, Signature
from kombu.entity import Exchange, Queue
from kombu.pools import ProducerPool

from flask_offload.engine_api import NewJob
from flask_offload.errors import EngineUnavailable

from .levels import LEVELS, broker_priority, level_of
from .records import KeptJob

MARK: Final = "offload"
"""A header of this engine's messages; those of plain Celery code don't have it."""
ANONYMOUS: Final = "flask_offload.job"
"""The Celery task of jobs whose own task was declared after Celery had listed the tasks."""
# kombu is typed in parts
_Exchange: Any = Exchange
_Queue: Any = Queue
_ProducerPool: Any = ProducerPool

CONNECTIONS: Final = 8
ONCE_MORE: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""For a connection that the broker has closed, for example in a restart."""


class Broker:
    """The sending side. timeout: seconds for connecting, and for each answer of the broker."""

    def __init__(self, celery: Celery, timeout: float) -> None:
        self._celery = celery
        self._timeout = timeout
        self._driver: str = celery.connection_for_write().get_transport_cls().driver_type
        self._producers: Any = None
        self._pid = 0
        self._queues: dict[str, Queue] = {}

    @property
    def place(self) -> str:
        """The broker's URL, its password replaced by `**`."""
        connection = self._celery.connection_for_write()
        # kombu writes redis://:**@ for a Redis without a password
        return str(connection.as_uri() if connection.password else connection.as_uri(True))

    def send(self, job: NewJob) -> None:
        """Send the message of a job; returns when the broker has it. Raises EngineUnavailable.

        The message holds the arguments as plain Celery code sends them.
        """
        try:
            with self._pool().acquire(block=True, timeout=self._timeout) as producer:
                if isinstance(job, KeptJob) and job.signature is not None:
                    self._send_plain(producer, job.signature)
                else:
                    self._send(producer, job)
        except Exception as error:
            raise self._explained(error) from error

    def _send(self, producer: Any, job: NewJob) -> None:
        args, kwargs = json.loads(job.args)
        message = self._celery.amqp.create_task_message(
            job.id,
            job.task,
            args=args,
            kwargs=kwargs,
            argsrepr="…",  # keeps arguments out of logs and monitors
            kwargsrepr="…",
            ignore_result=True,
        )
        self._celery.amqp.send_task_message(
            producer,
            job.task,
            message,
            queue=self.queue(job.queue_name),
            priority=broker_priority(level_of(job.priority), self._driver),
            headers={MARK: 1},
            serializer="json",
            retry=True,
            retry_policy=ONCE_MORE,
            timeout=self._timeout,
        )

    def _send_plain(self, producer: Any, signature: str) -> None:
        """The message of a job that plain Celery code has enqueued, as it was at first."""
        again = Signature.from_dict(json.loads(signature), app=self._celery)
        again.apply_async(producer=producer, retry=True, retry_policy=ONCE_MORE)

    def depth(self, queue_name: str) -> int:
        """How many messages wait in a queue. Raises EngineUnavailable."""
        try:
            with self._pool().acquire(block=True, timeout=self._timeout) as producer:
                answer = producer.channel.queue_declare(queue=queue_name, passive=True)
                return int(answer.message_count)
        except Exception as error:
            if getattr(error, "reply_code", None) == 404 or "404" in str(error):
                return 0  # not used since the broker was set up
            raise self._explained(error) from error

    def queue(self, name: str) -> Queue:
        """A queue with levels of priority, unless the app has declared one of that name itself."""
        if name not in self._queues:
            declared = {queue.name: queue for queue in self._celery.conf.task_queues or ()}
            if name == self._celery.conf.task_default_queue:
                declared.setdefault(name, self._celery.amqp.queues[name])
            self._queues[name] = declared.get(name) or _Queue(
                name,
                _Exchange(""),
                routing_key=name,
                queue_arguments={"x-max-priority": LEVELS - 1},
            )
        return self._queues[name]

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        producers, self._producers = self._producers, None
        if producers is not None and self._pid == os.getpid():
            producers.force_close_all()
            producers.connections.force_close_all()

    # --- connections ---

    def _pool(self) -> Any:
        if self._producers is None or self._pid != os.getpid():
            # a forked child leaves its parent's connections alone
            connection = self._celery.connection_for_write(
                connect_timeout=self._timeout, transport_options=self._options()
            )
            pool = connection.Pool(limit=CONNECTIONS)
            self._producers = _ProducerPool(
                pool, limit=CONNECTIONS, Producer=self._celery.amqp.Producer
            )
            self._pid = os.getpid()
        return self._producers

    def _options(self) -> dict[str, Any]:
        if self._driver == "redis":
            return {
                **ONCE_MORE,
                "socket_timeout": self._timeout,
                "socket_connect_timeout": self._timeout,
                "retry_on_timeout": False,
            }
        return {
            **ONCE_MORE,
            "confirm_publish": True,  # wait until RabbitMQ confirms that it has the message
            "read_timeout": self._timeout,
            "write_timeout": self._timeout,
        }

    def _explained(self, error: Exception) -> EngineUnavailable:
        if "PRECONDITION_FAILED" in str(error):
            return EngineUnavailable(
                f"the broker has a queue of this name with other properties ({error}): delete it"
                " there, or declare it as it is in Celery's task_queues"
            )
        return EngineUnavailable(
            f"Celery's broker at {self.place} can't be reached ({type(error).__name__}: {error}):"
            " start it, or correct broker_url"
        )
