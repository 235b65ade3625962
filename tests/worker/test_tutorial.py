"""docs/tutorial.md, step by step: each version of its app runs, and its test passes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from doc_blocks import ROOT, blocks
from support import answers, free_port, running, wait_until

pytestmark = pytest.mark.processes

FILES = [block for block in blocks(ROOT / "docs" / "tutorial.md") if block.file]
APPS = [block.code for block in FILES if block.file == "app.py"]


def posted(origin: str) -> tuple[float, int, str]:
    """Seconds, status and text of the reply to the form, without a browser's Accept header."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"{origin}/", data=b"names=Ann+Bo+Cem") as reply:
        return time.perf_counter() - began, reply.status, reply.read().decode()


def test_the_route_blocks_until_it_is_a_job(tmp_path: Path) -> None:
    took = []
    for step, code in enumerate(APPS):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / "app.py").write_text(code)
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "flask", "run", "--port", str(port)]
        with running(command, cwd=folder, ready=lambda _, o=origin: answers(o)):
            seconds, status, text = posted(origin)
            took.append(seconds)
            if step < 2:
                assert text == "3 letters sent"
            else:
                assert status == 202
                found = re.search(r"/offload/jobs/\w+", text)
                assert found
                wait_until(partial(has_succeeded, origin + found[0]), 30, "the job has not ended")
    assert max(took[2:]) < min(took[:2])


def has_succeeded(address: str) -> bool:
    with urllib.request.urlopen(address) as reply:
        return bool(json.load(reply)["status"] == "SUCCESSFUL")


def test_its_test_passes(tmp_path: Path) -> None:
    for block in FILES:  # the last version of each file
        assert block.file
        (tmp_path / block.file).write_text(block.code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
