"""The types are part of the interface: mypy strict takes right calls and refuses wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

HERE = Path(__file__).parents[1]


def run_mypy(file: Path, cache: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--show-error-codes"]
    done = subprocess.run(
        [*command, "--cache-dir", str(cache), "--config-file", "", str(file)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    return done.stdout + done.stderr


def test_right_calls_are_accepted(tmp_path: Path) -> None:
    assert "Success: no issues found" in run_mypy(HERE / "typing" / "right.py", tmp_path)


def test_each_wrong_call_is_refused(tmp_path: Path) -> None:
    file = HERE / "typing" / "wrong.py"
    expected = {
        number: line.rpartition("# error: ")[2]
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if "# error: " in line
    }
    output = run_mypy(file, tmp_path)
    found = {
        int(line): code
        for line, code in re.findall(r"wrong\.py:(\d+): error: .*\[([\w-]+)\]", output)
    }
    assert found == expected, output
