"""A budget in CI: limits in pyproject.toml, an earlier run to compare with, and what CI shows."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from flask_offload.cli.measure import measure_command
from flask_offload.measure import Measurement
from flask_offload.measure.budget import BadBaseline, BadBudget, check_baseline, read_budget
from flask_offload.measure.ci import annotation, summary
from flask_offload.measure.limits import BadLimit, Check, check_limits, parse_limit
from measure_samples import SETUP, before_and_after, probed, variant
from support import free_port, running

BUDGET = "[tool.flask-offload.budget]\n"


def budget(folder: Path, text: str) -> list[str]:
    (folder / "pyproject.toml").write_text(BUDGET + text)
    limits = read_budget(folder)
    return [f"{limit.label or ''}:{limit.figure.key}={limit.most:g}" for limit in limits]


def test_a_budget_is_read_from_the_nearest_project(tmp_path: Path) -> None:
    text = 'ttfb = "0.6s"\nreflows = 10\n"/a:lcp" = "2s"\n["/b"]\n'
    (tmp_path / "pyproject.toml").write_text(BUDGET + text.replace('["/b"]\n', ""))
    inner = tmp_path / "app" / "views"
    inner.mkdir(parents=True)
    assert len(read_budget(inner)) == 3
    table = BUDGET.replace("]", '."POST /b"]')
    assert budget(tmp_path, f'ttfb = "600ms"\n{table}lcp = "2500ms"\n') == [
        ":ttfb=600",
        "POST /b:lcp=2500",
    ]


def test_no_project_and_no_table_are_no_limits(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert read_budget(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[tool.flask-offload]\nbudget = 3\n", BadBudget, "is not a table of figures"),
        ("[tool.flask-offload\n", BadBudget, "can't be read"),
        (BUDGET + "ttfb = 600\n", BadLimit, "write ttfb=800ms"),
        (BUDGET + 'speed = "6ms"\n', BadLimit, "there is no figure 'speed'"),
        (BUDGET + "ttfb = [1]\n", BadLimit, "write FIGURE=VALUE"),
    ],
)
def test_a_budget_that_means_nothing_is_explained(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(error, match=re.escape(words)):
        read_budget(tmp_path)


# --- an earlier run ----------------------------------------------------------------------------


def failed(now: Measurement, earlier: Measurement) -> list[str]:
    return [check.name for check in check_baseline(now, earlier, "main.json") if not check.passed]


def of(*times: float, work_ms: float | None = None) -> Measurement:
    """A page that was requested over HTTP only."""
    page = replace(variant("/page", 1, 1), probe=probed(times), loads=(), bystander=None)
    return Measurement(replace(SETUP, work_ms=work_ms), (page,))


def test_the_same_app_has_not_regressed() -> None:
    assert failed(before_and_after(), before_and_after()) == []


def test_what_blocks_now_has_regressed_and_is_named() -> None:
    names = failed(of(*[400.0] * 10), of(*[5.0] * 10))
    assert names == ["/page: http-ttfb as in main.json", "/page: http-response as in main.json"]


def test_less_is_no_regression_and_new_pages_are_not_compared() -> None:
    assert failed(of(*[5.0] * 10), of(*[400.0] * 10)) == []
    assert check_baseline(before_and_after(), of(5.0), "main.json") == []


def test_a_slower_machine_is_not_a_slower_app() -> None:
    earlier = of(*[100.0] * 10, work_ms=20)
    assert failed(of(*[320.0] * 10, work_ms=60), earlier) == []
    assert failed(of(*[320.0] * 10, work_ms=20), earlier) != []


def test_noise_is_no_regression() -> None:
    """Any app's times: most near 5 ms, some hit by something else that runs."""
    noise = random.Random(7)

    def run() -> Measurement:
        times: Sequence[float] = [
            noise.lognormvariate(1.6, 0.5) + noise.choice([0] * 8 + [60]) for _ in range(10)
        ]
        return of(*times)

    earlier = run()
    assert not any(failed(run(), earlier) for _ in range(200))


def test_something_else_is_no_earlier_run(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    for path in (wrong, tmp_path / "none.json"):
        done = CliRunner().invoke(
            measure_command, ["http://127.0.0.1:9/", "--baseline", str(path), "--no-browser"]
        )
        assert done.exit_code == 1
        assert BadBaseline.__name__ not in done.output
        assert "--save" in done.stderr


# --- what CI shows -----------------------------------------------------------------------------


def test_an_annotation_is_one_line_whatever_is_in_it() -> None:
    check = Check("n", "/a", 1, False, "50 % more,\nor: so")
    text = annotation(check, ("a,b:c.py", 3, "Move it."))
    assert text == (
        "::error file=a%2Cb%3Ac.py,line=3,title=flask offload measure::"
        "50 %25 more,%0Aor: so. Move it."
    )
    assert annotation(check, None).startswith("::error title=flask offload measure::50")


def test_the_summary_is_a_table_and_a_list() -> None:
    checks = check_limits([parse_limit("ttfb=800ms")], before_and_after())
    text = summary(before_and_after(), checks, {"/sync": ("app.py", 7, "Move send.")})
    assert "| `/background` | 8.0 ms | 64 ms | 7.5 ms | ✓ Good |" in text
    assert "- ✗ /sync: ttfb up to 800 ms" in text
    assert "- `/sync` is blocked at `app.py:7`: Move send." in text


APP = """
import time
from flask import Flask
from flask_offload import Offload

app = Flask(__name__)
app.config.update(OFFLOAD_WORKER="off", OFFLOAD_SPOT=1.0)
Offload(app)

def send_mail():
    time.sleep({seconds})

@app.post("/orders/<int:number>")
def order(number):
    send_mail()
    return "thank you"
"""


def in_ci(folder: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    command = [sys.executable, "-m", "flask", "--app", "shop", "offload", "measure"]
    command += [f"http://127.0.0.1:{port}/orders/3", "--method", "POST", "--no-browser"]
    return subprocess.run(
        [*command, "--label", "order", "--probes", "4", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.processes
def test_a_regression_is_an_annotation_on_the_line_that_blocks(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(BUDGET + 'ttfb = "600ms"\nbystander = "1ms"\n')
    outcomes = []
    for seconds in (0, 0.7):
        (tmp_path / "shop.py").write_text(APP.replace("{seconds}", str(seconds)))
        port = free_port()
        command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]
        with running(command, cwd=tmp_path, env=os.environ, ready="Running on"):
            option = "--baseline" if seconds else "--save"
            outcomes.append(in_ci(tmp_path, port, option, "main.json"))
    before, after = outcomes
    assert before.returncode == 0, before.stderr
    assert "✓ passed: order: ttfb up to 600 ms" in before.stderr
    assert after.returncode == 1
    assert "once more, to be sure" in after.stderr
    errors = [line for line in after.stderr.splitlines() if line.startswith("::error")]
    assert len(errors) == 3  # the budget's limit, and two figures of the earlier run
    line = 1 + APP.splitlines().index("    time.sleep({seconds})")
    assert all(f"file=shop.py,line={line}" in error for error in errors), errors
    assert f"`shop.py:{line}`" in (tmp_path / "summary.md").read_text()
