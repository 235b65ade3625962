"""Plain Celery code in a process of its own: it knows the broker and the tasks' names, no more.

Prints the outcomes of its calls as JSON. The argument is the broker's URL.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import Celery
from celery.result import AsyncResult

TIMEOUT = 60


def outcome(result: Any) -> dict[str, Any]:
    """A result's id, its parent's, its status, and what it returned or raised."""
    answer = result.get(timeout=TIMEOUT, propagate=False)
    error = isinstance(answer, BaseException)
    return {
        "id": result.id,
        "parent": result.parent.id if isinstance(result, AsyncResult) and result.parent else None,
        "status": result.status,
        "answer": f"{type(answer).__name__}: {answer}" if error else answer,
    }


def main(url: str) -> None:
    celery = Celery("elsewhere", broker=url, backend=url)
    failing = celery.signature("celery_app.fail_until", args=[3])
    calls = {
        "sent": celery.send_task("celery_app.add", [1, 2]),
        "failed": celery.send_task("celery_app.fail", kwargs={"text": "no"}),
        "chained": (failing | celery.signature("celery_app.add", args=[10])).apply_async(),
        "discarded": celery.send_task("celery_app.discard"),
    }
    print(json.dumps({name: outcome(result) for name, result in calls.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
