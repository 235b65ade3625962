"""The browser that is already installed: how to find it and how to start it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import OffloadError

CANDIDATES = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "headless_shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
"""In order of preference. Full Chromium opens a window whose own pages load during a measurement:
FCP scattered over 68-308 ms there, over 44-116 ms in the shell."""

_MACOS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

PATH_VARIABLE = "OFFLOAD_CHROMIUM"
"""Environment variable with the path of the browser to use instead of searching PATH."""


class BrowserUnavailable(OffloadError):
    """No Chromium was found."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or f"no Chromium was found (looked for {', '.join(CANDIDATES)} on PATH): install one "
            "(Debian, Ubuntu: apt install chromium-headless-shell or chromium), or name it in "
            f"{PATH_VARIABLE}, or measure without it: --no-browser"
        )


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser on this machine. shell: the headless shell, which has no window of its own."""

    path: str
    shell: bool


def find(environ: Mapping[str, str] = os.environ) -> Chromium:
    """The browser named in OFFLOAD_CHROMIUM, or the best one on PATH. Raises BrowserUnavailable."""
    chosen = environ.get(PATH_VARIABLE)
    if chosen:
        path = shutil.which(chosen)
        if path is None:
            raise BrowserUnavailable(f"{PATH_VARIABLE} is {chosen!r}: there is no such program")
        return _chromium(path)
    for name in CANDIDATES:
        path = shutil.which(name, path=environ.get("PATH"))
        if path is not None:
            return _chromium(path)
    if sys.platform == "darwin":
        for path in _MACOS:
            if Path(path).exists():
                return _chromium(path)
    raise BrowserUnavailable


def _chromium(path: str) -> Chromium:
    return Chromium(path, shell="headless" in Path(path).name)


def arguments(hosts: Collection[str]) -> list[str]:
    """Command line: the browser reaches this machine and `hosts`, nothing else.

    Stray requests (fonts, statistics, updates) would be measured as part of the page.
    """
    reachable = ["127.0.0.1", "localhost", "[::1]", *sorted(hosts)]
    rules = ["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in reachable)]
    return [f"--host-resolver-rules={', '.join(rules)}"]


def sandboxed() -> bool:
    """Whether to use Chromium's sandbox, which does not work for root."""
    return not hasattr(os, "geteuid") or os.geteuid() != 0
