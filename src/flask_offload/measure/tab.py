"""One new tab: open the start page, load the measured page, wait until it settles, read it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import OffloadError
from .form import Upload
from .reading import page_load
from .samples import PageLoad
from .target import Target

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page, Request, Response, Route

VIEWPORT = (1280, 800)
QUIET_MS = 400
"""A page has settled when it reported nothing new for this long. At the load event LCP was missing
in 10 loads of 10, two frames later still in 1 of 10."""
PATIENCE_S = 5.0
"""How long, after the time of `watch`, a page may take to settle."""
_POLL_MS = 100

_FOLDER = Path(__file__).parent
OBSERVE = (_FOLDER / "observe.js").read_text("utf-8")
_DEPART = (_FOLDER / "depart.js").read_text("utf-8")
_START_PAGE = """<!doctype html><meta charset="utf-8"><title>Before</title>
<body style="font: 28px/1.5 sans-serif; margin: 4em; color: #555">The page before</body>"""


class PageFailed(OffloadError):
    """The browser could not load the page."""


class Tab:
    """A tab of its own, without cookies or cache of earlier loads."""

    def __init__(self, page: Page, cdp: CDPSession, target: Target, timeout: float) -> None:
        self.page = page
        self.cdp = cdp
        self._target = target
        self._timeout = timeout
        self._response: Response | None = None
        self._blocked: set[str] = set()
        page.on("requestfailed", self._record_failure)

    def open_start_page(self) -> None:
        """Open the page that the visitor comes from, or a plain one at the same origin.

        The plain one is answered by the browser itself, without a request to the server; at the
        same origin, so that cookies and the Origin header are those of a real visit.
        """
        self.cdp.send("Performance.enable")
        start = self._target.start
        if start is not None:
            with explained(start, self._timeout):
                self.page.goto(start, timeout=self._timeout * 1000)
            return
        plain = f"{self._target.origin}/the-page-before"

        def answer(route: Route) -> None:
            route.fulfill(body=_START_PAGE, content_type="text/html")

        self.page.route(plain, answer)
        self.page.goto(plain)
        self.page.unroute(plain)  # interception would slow the measured requests

    def go(self) -> None:
        """Go to the measured page and wait for its load event."""
        target = self._target
        fields = [[name, _for_page(value)] for name, value in target.fields]
        journey = {"url": target.url, "method": target.method, "fields": fields}
        wait_ms = self._timeout * 1000
        with self.page.expect_navigation(wait_until="load", timeout=wait_ms) as navigation:
            self.page.evaluate(_DEPART, journey)
        self._response = navigation.value

    def settle(self, watch: float) -> bool:
        """Wait until nothing new was reported for QUIET_MS, and `watch` seconds since the load.

        False if the page did not settle. Polls every 100 ms: Playwright's wait_for_function polls
        in every animation frame, which makes the browser paint more frames.
        """
        deadline = time.monotonic() + watch + PATIENCE_S
        while time.monotonic() < deadline:
            calm = self.page.evaluate("window.__flaskOffloadEvidence.calm()")
            if calm["quiet"] >= QUIET_MS and calm["sinceLoad"] >= watch * 1000:
                return True
            self.page.wait_for_timeout(_POLL_MS)
        return False

    def read(self, settled: bool) -> PageLoad:
        """The figures of this load."""
        notes = self.notes()
        metrics = self.cdp.send("Performance.getMetrics")["metrics"]
        return page_load(
            notes,
            {metric["name"]: metric["value"] for metric in metrics},
            _hops(self._response),
            url=self.page.url,
            status=self._response.status if self._response else None,
            settled=settled,
            blocked_hosts=self._blocked,
        )

    def notes(self) -> dict[str, Any]:
        """What observe.js has recorded so far."""
        notes: dict[str, Any] = self.page.evaluate("window.__flaskOffloadEvidence.read()")
        return notes

    def _record_failure(self, request: Request) -> None:
        if "ERR_NAME_NOT_RESOLVED" in (request.failure or ""):
            self._blocked.add(urlsplit(request.url).hostname or request.url)


@contextmanager
def explained(url: str, timeout: float) -> Iterator[None]:
    """Turn Playwright's errors into PageFailed, with the cause and a remedy."""
    from playwright.sync_api import Error, TimeoutError

    try:
        yield
    except TimeoutError:
        raise PageFailed(
            f"{url} did not finish loading within {timeout:g} s: give it longer with --timeout"
        ) from None
    except Error as error:
        raise PageFailed(_reason(url, error.message)) from None


def _reason(url: str, message: str) -> str:
    if "ERR_ABORTED" in message:
        return (
            f"{url} is no page that a browser shows (a download, or status 204): "
            "measure it without the browser (--no-browser), or measure the page that leads to it"
        )
    if "ERR_NAME_NOT_RESOLVED" in message:
        return f"{url} led to a host that is not allowed: name it with --allow-host"
    return f"the browser could not load {url}: {message.splitlines()[0]}"


def _for_page(value: str | Upload) -> str | dict[str, str]:
    if isinstance(value, str):
        return value
    content = base64.b64encode(value.content).decode()
    return {"filename": value.filename, "type": value.content_type, "base64": content}


def _hops(response: Response | None) -> Sequence[Sequence[str]]:
    """Server-Timing headers of every answer on the way, the page's own last."""
    hops: list[list[str]] = []
    request = response.request if response else None
    while request is not None:
        answer = request.response()
        headers = answer.headers_array() if answer else []
        found = [item["value"] for item in headers if item["name"].lower() == "server-timing"]
        hops.insert(0, found)
        request = request.redirected_from
    return hops
