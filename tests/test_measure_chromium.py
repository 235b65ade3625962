"""Which browser is taken, and how it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flask_offload.evidence import chromium


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


def test_without_playwright_the_message_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['playwright'] = None\n"
        "from flask_offload.evidence.browser import Browser, PlaywrightMissing\n"
        "try:\n    Browser().__enter__()\n"
        "except PlaywrightMissing as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Flask-Offload[evidence]" in done.stdout
    assert "--no-browser" in done.stdout
