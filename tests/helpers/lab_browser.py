"""Pages of the lab in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Page

from lab_support import RunningLab
from web_browser import WATCH

DESKTOP = (1200, 900)
PHONE = (360, 740)
LONG = 45_000
"""Milliseconds for an experiment on a busy machine."""


@contextmanager
def opened(
    browser: Browser,
    lab: RunningLab,
    path: str,
    size: tuple[int, int] = DESKTOP,
    javascript: bool = True,
) -> Iterator[Page]:
    """A page of the lab. Its layout must not shift, and no resource must be refused."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        reduced_motion="reduce",
        java_script_enabled=javascript,
    )
    page = context.new_page()
    page.add_init_script(WATCH)
    errors: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(lab.origin + path)
        yield page
        if javascript:
            assert page.evaluate("window.violations") == []
            assert page.evaluate("window.shifts") < 0.02
        assert errors == []
    finally:
        context.close()


def number(text: str | None) -> float:
    """Milliseconds from `1,234 ms` or `1.2 s`."""
    found = re.fullmatch(r"([\d,.]+)\s(ms|s)", text or "")
    assert found, text
    return float(found[1].replace(",", "")) * (1000 if found[2] == "s" else 1)
