"""Page loads in a real Chromium, driven through Playwright (the extra `evidence`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from http.cookies import SimpleCookie
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ..errors import OffloadError
from . import chromium
from .filmstrip import Camera
from .paint import CATEGORIES, paint_cost
from .samples import Filmstrip, PageLoad, PaintCost
from .tab import OBSERVE, VIEWPORT, Tab, explained
from .target import Target

if TYPE_CHECKING:
    import playwright.sync_api as api

T = TypeVar("T")

WINDOW_SETTLES_MS = 1_000
"""For about this long after opening a window, full Chromium loads pages of its own."""
FIRST_FRAME_MS = 2_000


class PlaywrightMissing(OffloadError):
    """The browser is driven by Playwright, which is not installed: pip install
    "Flask-Offload[evidence]", or measure without the browser (--no-browser)."""


class Browser:
    """A running browser; use it in a `with` block, in one thread.

    hosts: reachable besides this machine. watch: seconds to keep observing a page after its load
    event, for pages that report back. timeout: seconds for one load.
    Entering raises PlaywrightMissing or BrowserUnavailable; loading raises PageFailed.
    """

    def __init__(
        self, *, hosts: Collection[str] = (), watch: float = 0.0, timeout: float = 30.0
    ) -> None:
        self._hosts = hosts
        self._watch = watch
        self._timeout = timeout

    def __enter__(self) -> Browser:
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            raise PlaywrightMissing from None
        self._found = chromium.find()
        self._playwright: api.Playwright = sync_playwright().start()
        try:
            self._browser: api.Browser = self._launch()
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self._browser.close()
        finally:
            self._playwright.stop()

    def _launch(self) -> api.Browser:
        from playwright.sync_api import Error

        try:
            return self._playwright.chromium.launch(
                executable_path=self._found.path,
                args=chromium.arguments(self._hosts),
                chromium_sandbox=chromium.sandboxed(),
            )
        except Error as error:
            raise chromium.BrowserUnavailable(
                f"{self._found.path} did not start: {error.message.strip()[:500]}"
            ) from None

    @property
    def name(self) -> str:
        """Program and version, for the report."""
        kind = "headless shell" if self._found.shell else "new headless mode"
        return f"Chromium {self._browser.version} ({kind})"

    def load(self, target: Target) -> PageLoad:
        """One untraced, unfilmed load."""
        with self._tab(target) as tab:
            tab.go()
            return tab.read(settled=tab.settle(self._watch))

    def paint(self, target: Target) -> PaintCost:
        """One load with tracing on. Tracing costs time, so nothing else is taken from it."""
        with self._tab(target) as tab:
            self._browser.start_tracing(categories=list(CATEGORIES))
            try:
                tab.go()
                tab.settle(self._watch)
            finally:
                trace = self._browser.stop_tracing()
        return paint_cost(json.loads(trace)["traceEvents"])

    def film(self, target: Target) -> Filmstrip | None:
        """One load as a filmstrip, from the start page until the page is settled."""
        with self._tab(target) as tab:
            camera = Camera(tab.cdp)
            camera.start()
            for _ in range(FIRST_FRAME_MS // 50):
                if camera.rolling:
                    break
                tab.page.wait_for_timeout(50)
            tab.go()
            tab.settle(self._watch)
            return camera.develop(tab.notes()["timeOrigin"])

    @contextmanager
    def _tab(self, target: Target) -> Iterator[Tab]:
        """A fresh context: no cache and no cookies of earlier loads."""
        width, height = VIEWPORT
        headers = {name: value for name, value in target.headers if name.lower() != "cookie"}
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, extra_http_headers=headers
        )
        try:
            context.add_cookies(
                [
                    {"name": name, "value": value, "url": target.origin}
                    for name, value in _cookies(target).items()
                ]
            )
            context.add_init_script(OBSERVE)
            page = context.new_page()
            tab = Tab(page, context.new_cdp_session(page), target, self._timeout)
            tab.open_start_page()
            if not self._found.shell:
                page.wait_for_timeout(WINDOW_SETTLES_MS)
            with explained(target.url, self._timeout):
                yield tab
        finally:
            context.close()


def load_interleaved(
    browser: Browser,
    targets: Sequence[Target],
    runs: int,
    progress: Callable[[str], None] = lambda _: None,
) -> list[tuple[PageLoad, ...]]:
    """Load the targets in turns (a, b, a, b …), `runs` times each, after a round that is discarded.

    The first load of a browser is slow. Interleaving spreads the load of the machine evenly.
    """

    def report(turn: int) -> None:
        progress(f"page loads, round {turn} of {runs}" if turn else "page loads, warming up")

    return [loads[1:] for loads in _in_turns(browser.load, targets, runs + 1, report)]


def paint_interleaved(
    browser: Browser,
    targets: Sequence[Target],
    runs: int,
    progress: Callable[[str], None] = lambda _: None,
) -> list[tuple[PaintCost, ...]]:
    """Trace loads of the targets in turns, `runs` times each. The browser is warm by then."""

    def report(turn: int) -> None:
        progress(f"paint cost, round {turn + 1} of {runs}")

    return _in_turns(browser.paint, targets, runs, report)


def _in_turns(
    read: Callable[[Target], T],
    targets: Sequence[Target],
    rounds: int,
    report: Callable[[int], None],
) -> list[tuple[T, ...]]:
    """Call `read` with each target in turn, `rounds` times; returns the results by target."""
    seen: list[list[T]] = [[] for _ in targets]
    for turn in range(rounds):
        report(turn)
        for each, target in zip(seen, targets, strict=True):
            each.append(read(target))
    return [tuple(each) for each in seen]


def _cookies(target: Target) -> dict[str, str]:
    """The cookies of a Cookie header. The browser's jar overrides the header itself."""
    jar = SimpleCookie()
    for name, value in target.headers:
        if name.lower() == "cookie":
            jar.load(value)
    return {name: morsel.coded_value for name, morsel in jar.items()}
