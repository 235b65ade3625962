"""HTTP probes: what a visitor waits, and what a bystander waits while others use a slow page.

They use the standard library only. Everything is bounded in count and in time, and only this
machine is probed unless a host is allowed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from http.client import HTTPException
from types import TracebackType
from urllib.parse import urlsplit

from ..errors import OffloadError
from .http_client import TIMED_OUT, Request, ask, prepare
from .samples import Answer, ProbeResult
from .target import Target, check_host

MAX_PROBES = 1_000
MAX_CLIENTS = 100
MAX_SECONDS = 120.0
MAX_RUNS = 50
"""Page loads of each URL that count."""
MAX_WATCH = 60.0
"""Seconds to watch a page after its load event."""
TIMEOUT = 30.0
"""Seconds after which a request counts as timed out."""
INTERVAL = 0.25
"""Seconds between two probes of the bystander's page."""
PACE = 1.5
"""Seconds between two requests of one client; a slow answer delays the client's next request."""


class NoAnswer(OffloadError):
    """Nothing answers at this address: start the app first (flask run), then measure."""


class OutOfBounds(OffloadError):
    """More requests, clients or seconds than a measurement may use."""


def probe(
    url: str,
    *,
    n: int = 20,
    method: str = "GET",
    data: Mapping[str, str] | None = None,
    max_seconds: float = 20.0,
    timeout: float = TIMEOUT,
    allow_hosts: Collection[str] = (),
) -> ProbeResult:
    """Request `url` up to `n` times, one request after the other, for at most `max_seconds`.

    One more request is sent first and not counted, because it includes imports and cold caches.
    data: form fields, for POST. timeout: seconds.
    Raises HostNotAllowed, OutOfBounds, NoAnswer (the first request got no answer at all).
    """
    target = Target(url, method, tuple((data or {}).items()))
    return probe_interleaved(
        [target], n=n, max_seconds=max_seconds, timeout=timeout, allow_hosts=allow_hosts
    )[0]


def probe_interleaved(
    targets: Sequence[Target],
    *,
    n: int = 20,
    max_seconds: float = 20.0,
    timeout: float = TIMEOUT,
    allow_hosts: Collection[str] = (),
) -> list[ProbeResult]:
    """Probe several targets in turns (a, b, a, b …), so that other load affects them equally.

    A target that has used up its `max_seconds` is left out of further turns.
    """
    bounded("requests", n, MAX_PROBES)
    bounded("seconds", max_seconds, MAX_SECONDS)
    _check_hosts(targets, allow_hosts)
    requests = [_ready(target, timeout) for target in targets]
    began = time.perf_counter()
    answers: list[list[Answer]] = [[] for _ in requests]
    spent = [0.0 for _ in requests]
    for _ in range(n):
        for index, request in enumerate(requests):
            if spent[index] < max_seconds:
                start = time.perf_counter()
                answers[index].append(ask(request, timeout=timeout, began=began))
                spent[index] += time.perf_counter() - start
    return [
        ProbeResult(request.url, request.method, tuple(got), seconds)
        for request, got, seconds in zip(requests, answers, spent, strict=True)
    ]


def probe_bystander(
    page: str | Target,
    busy: str | Target | None,
    *,
    clients: int = 4,
    seconds: float = 6.0,
    interval: float = INTERVAL,
    pace: float = PACE,
    timeout: float = TIMEOUT,
    allow_hosts: Collection[str] = (),
) -> ProbeResult:
    """Measure how long `page` takes while `clients` clients keep requesting `busy`.

    Probes start every `interval` seconds whether or not earlier ones were answered (open loop),
    for `seconds` seconds. Each client starts a request every `pace` seconds, or as soon as its
    last one is answered if that takes longer; so a quick page gets the same demand, not more.
    busy: None measures the idle server.
    Raises HostNotAllowed, OutOfBounds, NoAnswer.
    """
    page, slow = _target(page), None if busy is None else _target(busy)
    bounded("clients", clients, MAX_CLIENTS)
    bounded("seconds", seconds, MAX_SECONDS)
    bounded("probes", seconds / interval, MAX_PROBES)
    _check_hosts([page] if slow is None else [page, slow], allow_hosts)
    request = _ready(page, timeout)
    if slow is None:
        answers, took = _open_loop(request, seconds, interval, timeout)
        return ProbeResult(page.url, page.method, answers, took)
    with BackgroundClients(_ready(slow, timeout), clients, pace, timeout) as others:
        time.sleep(pace)  # until every client has sent one request; before that the queue is short
        answers, took = _open_loop(request, seconds, interval, timeout)
        served = others.answered
    return ProbeResult(page.url, page.method, answers, took, clients, slow.url, served)


class BackgroundClients:
    """Clients that keep using one page while the `with` block runs.

    Leaving the block waits for the requests still under way, so that the server is idle again.
    """

    def __init__(self, request: Request, clients: int, pace: float, timeout: float) -> None:
        self._request = request
        self._pace = pace
        self._timeout = timeout
        self._leave = threading.Event()
        self._count = threading.Lock()
        self._threads = [
            threading.Thread(target=self._client, args=(index * pace / clients,), daemon=True)
            for index in range(clients)
        ]
        self.answered: int = 0

    def __enter__(self) -> BackgroundClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join(self._timeout + 1)

    def _client(self, delay: float) -> None:
        if self._leave.wait(delay):
            return
        while not self._leave.is_set():
            start = time.perf_counter()
            answer = ask(self._request, timeout=self._timeout, began=start)
            if not answer.failed:
                with self._count:
                    self.answered += 1
            self._leave.wait(self._pace - (time.perf_counter() - start))


def _open_loop(
    request: Request, seconds: float, interval: float, timeout: float
) -> tuple[tuple[Answer, ...], float]:
    """Start a request every `interval` seconds, answered or not; wait for all of them."""
    answers: list[Answer] = []
    began = time.perf_counter()

    def send(due: float) -> None:
        answers.append(ask(request, timeout=timeout, began=began, due=due))

    threads = []
    for index in range(max(int(seconds / interval), 1)):
        due = began + index * interval
        time.sleep(max(due - time.perf_counter(), 0))
        threads.append(threading.Thread(target=send, args=(due,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(timeout + 1)
    took = time.perf_counter() - began
    return tuple(sorted(answers, key=lambda answer: answer.at_s)), took


def _target(page: str | Target) -> Target:
    return Target(page) if isinstance(page, str) else page


def _check_hosts(targets: Sequence[Target], allowed: Collection[str]) -> None:
    for target in targets:
        for url in filter(None, (target.url, target.start)):
            check_host(url, allowed)


def _ready(target: Target, timeout: float) -> Request:
    """Prepare the request, and send the one that is not counted."""
    try:
        request = prepare(target, timeout)
    except (OSError, HTTPException) as error:
        raise _no_answer(target.start or target.url, error) from None
    first = ask(request, timeout=timeout, began=time.perf_counter())
    if first.error == TIMED_OUT:
        raise NoAnswer(
            f"{target.url} took longer than {timeout:g} s: give it longer with --timeout"
        )
    if first.error is not None:
        raise _no_answer(target.url, first.error)
    return request


def _no_answer(url: str, reason: object) -> NoAnswer:
    parts = urlsplit(url)
    return NoAnswer(
        f"{parts.scheme}://{parts.netloc} does not answer {parts.path or '/'} ({reason}): "
        "start the app first (flask run), then measure"
    )


def bounded(what: str, value: float, most: float) -> None:
    """Raise OutOfBounds unless the value is above 0 and at most `most`."""
    if not 0 < value <= most:
        raise OutOfBounds(
            f"{what}: {value:g} asked for, at most {most:g} are possible, and more than 0"
        )
