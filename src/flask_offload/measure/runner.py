"""Measure pages: over HTTP, beside other clients, and in a browser."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from .browser import (
    Browser,
    PlaywrightMissing,
    load_interleaved,
    paint_interleaved,
)
from .chromium import BrowserUnavailable
from .form import Fields
from .probe import (
    MAX_RUNS,
    MAX_SECONDS,
    MAX_WATCH,
    bounded,
    probe_bystander,
    probe_interleaved,
)
from .samples import Measurement, ProbeResult, Setup, Variant, percentile
from .target import Target, beside, check_host, full_url

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    runs: page loads of each URL that count. traced: extra loads for the paint cost.
    probes: HTTP requests to each URL, fewer if they take longer than probe_seconds.
    bystander: the bystander's page, None to leave it out: a path, which is taken at each URL's own
    server, or a URL on that server. It is probed for `seconds` seconds while `clients` clients use
    each URL.
    browser: True: fail without one; None: use one if there is one. film: record filmstrips.
    fields, start, headers: see Target. labels: names of the URLs in the report.
    watch: seconds to watch a page after its load event. timeout: seconds for one request or load.
    allow_hosts: hosts that may be measured besides this machine.
    """

    runs: int = 5
    traced: int = 3
    probes: int = 20
    probe_seconds: float = 20.0
    bystander: str | None = None
    clients: int = 4
    seconds: float = 6.0
    method: str = "GET"
    fields: Fields = ()
    start: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    browser: bool | None = None
    film: bool = True
    watch: float = 0.0
    timeout: float = 30.0
    allow_hosts: tuple[str, ...] = ()


def measure(
    urls: Sequence[str], options: Options | None = None, progress: Progress = lambda _: None
) -> Measurement:
    """Measure every URL; the first counts as "before", the last as "after".

    progress: called with one line of text at each step.
    Raises BadUrl, OtherServer, HostNotAllowed, OutOfBounds, NoAnswer; with a browser also
    PageFailed, and, if `options.browser` is True, PlaywrightMissing or BrowserUnavailable.
    """
    options = options or Options()
    _check_bounds(options)
    targets = [_target(url, options) for url in urls]
    page = options.bystander
    pages = [] if page is None else [beside(page, target) for target in targets]
    for target in targets:
        check_host(target.url, options.allow_hosts)
    with ExitStack() as stack:
        browser, note = _open_browser(options, stack)
        setup = _setup(options, browser, note)
        work = [_fixed_work_ms(), _fixed_work_ms()]
        variants = _over_http(targets, options, progress)
        work += [_fixed_work_ms(), _fixed_work_ms()]
        if pages:
            variants = _with_bystander(pages, variants, targets, options, progress)
        if browser is not None:
            variants = _in_browser(browser, variants, targets, options, progress)
            work += [_fixed_work_ms(), _fixed_work_ms()]
    return Measurement(replace(setup, work_ms=percentile(work, 50)), tuple(variants))


def _check_bounds(options: Options) -> None:
    """Raise OutOfBounds before anything is sent; the probe checks its own limits."""
    bounded("page loads", options.runs, MAX_RUNS)
    bounded("seconds of timeout", options.timeout, MAX_SECONDS)
    if options.watch:
        bounded("seconds of watching", options.watch, MAX_WATCH)


def _target(url: str, options: Options) -> Target:
    start = full_url(options.start) if options.start is not None else None
    return Target(full_url(url), options.method, options.fields, start, options.headers)


def labels_of(urls: Sequence[str], options: Options) -> tuple[str, ...]:
    """The given labels, or short ones made from the URLs; no two are the same."""
    if options.labels:
        return options.labels
    parts = [urlsplit(full_url(url)) for url in urls]
    one_server = len({part.netloc for part in parts}) == 1
    labels: list[str] = []
    for part in parts:
        label = (part.path or "/") + (f"?{part.query}" if part.query else "")
        label = label if one_server else part.netloc + label
        label = f"POST {label}" if options.method == "POST" else label
        labels.append(label if label not in labels else f"{label} ({len(labels) + 1})")
    return tuple(labels)


def _open_browser(options: Options, stack: ExitStack) -> tuple[Browser | None, str | None]:
    """The browser, or None and the reason."""
    if options.browser is False:
        return None, "not wanted"
    hosts = options.allow_hosts
    browser = Browser(hosts=hosts, watch=options.watch, timeout=options.timeout)
    try:
        return stack.enter_context(browser), None
    except (PlaywrightMissing, BrowserUnavailable) as error:
        if options.browser:
            raise
        return None, str(error)


def _over_http(targets: Sequence[Target], options: Options, progress: Progress) -> list[Variant]:
    progress(f"HTTP, up to {options.probes} requests to each URL")
    results = probe_interleaved(
        targets,
        n=options.probes,
        max_seconds=options.probe_seconds,
        timeout=options.timeout,
        allow_hosts=options.allow_hosts,
    )
    labels = labels_of([target.url for target in targets], options)
    return [
        Variant(label, target.url, target.method, result)
        for label, target, result in zip(labels, targets, results, strict=True)
    ]


def _with_bystander(
    pages: Sequence[Target],
    variants: Sequence[Variant],
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
) -> list[Variant]:
    """Probe the bystander's page on each server: idle, and while clients use each target."""
    idle: dict[str, ProbeResult] = {}
    for page in pages:
        if page.url not in idle:
            progress(f"bystander's page {page.url}, idle server")
            idle[page.url] = _bystander(page, None, options)
    probed = []
    for variant, page, target in zip(variants, pages, targets, strict=True):
        progress(f"bystander's page, {options.clients} clients on {variant.label}")
        result = _bystander(page, target, options)
        probed.append(replace(variant, bystander=result, idle=idle[page.url]))
    return probed


def _bystander(page: Target, slow: Target | None, options: Options) -> ProbeResult:
    return probe_bystander(
        page,
        slow,
        clients=options.clients,
        seconds=options.seconds,
        timeout=options.timeout,
        allow_hosts=options.allow_hosts,
    )


def _in_browser(
    browser: Browser,
    variants: Sequence[Variant],
    targets: Sequence[Target],
    options: Options,
    progress: Progress,
) -> list[Variant]:
    """Timed loads first; traced and filmed ones apart from them, because both cost time."""
    loads = load_interleaved(browser, targets, options.runs, progress)
    paints = paint_interleaved(browser, targets, options.traced, progress)
    seen = []
    for variant, target, timed, traced in zip(variants, targets, loads, paints, strict=True):
        if options.film:
            progress(f"filmstrip of {variant.label}")
        film = browser.film(target) if options.film else None
        seen.append(replace(variant, loads=timed, paints=traced, film=film))
    return seen


def _setup(options: Options, browser: Browser | None, note: str | None) -> Setup:
    return Setup(
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=os.cpu_count() or 1,
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        browser=browser.name if browser is not None else None,
        browser_note=note,
        start_url=options.start,
        watch_s=options.watch,
        allowed_hosts=options.allow_hosts,
    )


def _fixed_work_ms() -> float:
    """How long a fixed piece of work takes now, in ms: it shows how busy the machine is."""
    began = time.perf_counter()
    total = 0
    for number in range(300_000):
        total += number * number
    return (time.perf_counter() - began) * 1000
