"""Which browser is taken, and how it is started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from flask_offload.measure import chromium
from flask_offload.measure.browser import Browser
from measure_support import require_chromium

pytestmark = pytest.mark.processes

if TYPE_CHECKING:
    from playwright.sync_api import Playwright


def install(folder: Path, *names: str) -> dict[str, str]:
    """An environment in which only these browsers are installed."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_the_headless_shell_comes_first(tmp_path: Path) -> None:
    environ = install(tmp_path, "google-chrome", "chromium", "chromium-headless-shell")
    found = chromium.find(environ)
    assert (found.path, found.shell) == (str(tmp_path / "chromium-headless-shell"), True)


def test_chromium_comes_before_chrome(tmp_path: Path) -> None:
    found = chromium.find(install(tmp_path, "google-chrome", "chromium"))
    assert (found.path, found.shell) == (str(tmp_path / "chromium"), False)


def test_the_variable_overrules(tmp_path: Path) -> None:
    environ = install(tmp_path, "chromium-headless-shell", "my-browser")
    mine = str(tmp_path / "my-browser")
    assert chromium.find(environ | {"OFFLOAD_CHROMIUM": mine}).path == mine


def test_a_wrong_variable_is_not_ignored(tmp_path: Path) -> None:
    environ = install(tmp_path, "chromium") | {"OFFLOAD_CHROMIUM": "/nowhere/chromium"}
    with pytest.raises(chromium.BrowserUnavailable, match="OFFLOAD_CHROMIUM is '/nowhere"):
        chromium.find(environ)


@pytest.mark.skipif(sys.platform == "darwin", reason="looks into /Applications too")
def test_without_a_browser_the_message_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(chromium.BrowserUnavailable, match=r"chromium-headless-shell.*--no-browser"):
        chromium.find(install(tmp_path))


def test_stray_traffic_is_blocked() -> None:
    (argument,) = chromium.arguments(["shop.example"])
    assert argument.startswith("--host-resolver-rules=MAP * ~NOTFOUND")
    for host in ("127.0.0.1", "localhost", "[::1]", "shop.example"):
        assert f"EXCLUDE {host}" in argument


def test_only_root_goes_without_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert chromium.sandboxed()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not chromium.sandboxed()


class Launcher:
    """Stands for Playwright; notes how it is asked to start a browser."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    @property
    def chromium(self) -> Launcher:
        return self

    def launch(self, **options: Any) -> None:
        self.asked = options


@pytest.mark.parametrize("user", [0, 1000], ids=["root", "user"])
def test_the_browser_is_started_as_playwright_knows_best(
    user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playwright has the right headless flag for each version; beside one of Flask-Offload it
    removes both, and the browser looks for a screen."""
    require_chromium()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    browser, launcher = Browser(hosts=["shop.example"]), Launcher()
    browser._found = chromium.Chromium("/opt/chromium", shell=False)
    browser._playwright = cast("Playwright", launcher)
    browser._launch()
    assert launcher.asked == {
        "executable_path": "/opt/chromium",
        "args": chromium.arguments(["shop.example"]),
        "chromium_sandbox": user != 0,
    }


def test_the_browser_leaves_no_profile_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a process: the leak detector would name it."""
    require_chromium()
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        with Browser():
            assert os.listdir(folder)  # or else this test has shown nothing
        assert os.listdir(folder) == []


def test_without_playwright_the_message_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['playwright'] = None\n"
        "from flask_offload.measure.browser import Browser, PlaywrightMissing\n"
        "try:\n    Browser().__enter__()\n"
        "except PlaywrightMissing as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Flask-Offload[evidence]" in done.stdout
    assert "--no-browser" in done.stdout
