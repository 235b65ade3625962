"""A service fails for a moment; the jobs that call it try again, together or spread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .. import queue_app
from . import Events
from .own_worker import OwnWorker

JOBS = 40
DOWN = 1.2
"""Seconds for which the service refuses all calls, from the first one on."""

CAPACITY = 4
"""Calls that it can serve in a tenth of a second; it refuses the others."""

STEP = 0.1
LIMIT = 30.0
"""Seconds for one run."""

EVERY = 0.2


class Service(ThreadingHTTPServer):
    """Answers 200 or 503, and writes down when. Use it in a `with` block."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[tuple[float, bool]] = []
        """Seconds since the first call, and whether it was served."""
        self._first: float | None = None
        self._served: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> Service:
        self._thread = threading.Thread(target=self.serve_forever, args=[0.05], daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def take(self) -> bool:
        """Count a call; whether it is served."""
        with self._lock:
            now = time.monotonic()
            self._first = now if self._first is None else self._first
            at = now - self._first
            step = int(at / STEP)
            served = at > DOWN and self._served[step] < CAPACITY
            self._served[step] += served
            self.calls.append((at, served))
            return served


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Service)
        self.send_response(200 if self.server.take() else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def storm(jitter: bool) -> Events:
    """Events: served and refused (calls in each tenth of a second so far), done; the last one also
    has calls, peak (the most calls in a tenth of a second after the service was up again) and took
    (ms until all jobs were done; None if not all of them were)."""
    yield {"status": "Starting a worker…"}
    with OwnWorker(1, JOBS) as worker, Service() as service:
        task = queue_app.call_spread if jitter else queue_app.call_together
        for number in range(JOBS):
            worker.enqueue(task, f"http://127.0.0.1:{service.server_port}/{number}")
        deadline = time.monotonic() + LIMIT
        while True:
            calls = list(service.calls)
            done = sum(served for _, served in calls)
            event = {**_steps(calls), "jitter": jitter, "done": done, "jobs": JOBS}
            if done == JOBS or time.monotonic() > deadline:
                break
            yield event
            time.sleep(EVERY)
        later = Counter(int(at / STEP) for at, _ in calls if at > DOWN)
        took = round(calls[-1][0] * 1000) if done == JOBS else None
        yield {**event, "calls": len(calls), "peak": max(later.values(), default=0), "took": took}


def _steps(calls: list[tuple[float, bool]]) -> dict[str, list[int]]:
    steps = int(max((at for at, _ in calls), default=0) / STEP) + 1
    counted = Counter((int(at / STEP), served) for at, served in calls)
    return {
        name: [counted[step, served] for step in range(steps)]
        for name, served in (("served", True), ("refused", False))
    }
