"""A worker's row, by which commands and pages can show it."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from .processes import boot
from .store import StoreOptions, WorkerInfo

WORKER_COLUMNS = "id, pid, host, boot, kind, queues, capacity, started_at"
"""What `registration_row` fills, in this order; `stopping` follows when they are read."""


def registration_row(
    worker_id: str, options: StoreOptions, started_at: float
) -> tuple[object, ...]:
    """The values of WORKER_COLUMNS for a worker in this process. started_at: unix seconds."""
    return (
        worker_id,
        os.getpid(),
        socket.gethostname(),
        boot(),
        options.kind,
        None if options.queues is None else json.dumps(sorted(options.queues)),
        options.capacity,
        started_at,
    )


def worker_info(row: tuple[Any, ...]) -> WorkerInfo:
    """A row of WORKER_COLUMNS and `stopping`."""
    return WorkerInfo(
        id=row[0],
        pid=row[1],
        host=row[2],
        boot=row[3],
        kind=row[4],
        queues=None if row[5] is None else json.loads(row[5]),
        capacity=row[6],
        started_at=row[7],
        stopping=bool(row[8]),
    )
