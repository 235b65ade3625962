"""Fix and Build: the reader's program is run, and judged by what it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flask_offload_lab.experiments.checked import NoProject, fix, step
from flask_offload_lab.project import SOLVED, prepare
from flask_offload_lab.site.content import CHALLENGES

pytestmark = pytest.mark.processes


def verdict(key: str, order: list[object], **choices: int) -> tuple[bool, str]:
    last = list(fix(CHALLENGES[key], order, choices))[-1]
    return last["good"], last["text"]


@pytest.mark.parametrize(
    ("key", "order", "choices", "reason"),
    [
        ("mail", [], {"decorator": 1, "call": 1}, "there is no job"),
        ("portraits", [], {"loop": 1, "call": 1, "answer": 0}, "not one portrait was finished"),
    ],
)
def test_answers_that_are_fast_and_wrong(
    key: str, order: list[object], choices: dict[str, int], reason: str
) -> None:
    """The blocking ones and the right ones: test_lab_browser.py."""
    good, text = verdict(key, order, **choices)
    assert not good
    assert reason in text


def test_waiting_for_the_job_is_blocking_too() -> None:
    good, text = verdict("portraits", [], loop=1, call=2, answer=2)
    assert not good
    assert "The gate" in text
    assert ".wait" in text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return prepare(tmp_path / "project")


def steps_of(project: Path, key: str) -> list[tuple[bool, str]]:
    return [(each["good"], each["text"]) for each in step(project, key)]


def test_the_start_solves_nothing(project: Path) -> None:
    [(good, text)] = steps_of(project, "mail")
    assert not good
    assert "no Flask-Offload yet" in text


def test_the_solved_project_passes_every_step(project: Path) -> None:
    shutil.copyfile(SOLVED, project / "app.py")
    for key in ("mail", "photo", "clean_up"):
        steps = steps_of(project, key)
        assert steps[-1] == (True, "Solved."), steps
    assert sorted(path.name for path in project.iterdir()) == ["README.md", "app.py"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("print('{\"good\": true}')\nx = 1\n", "Failed to find Flask"),
    ],
)
def test_a_program_that_does_not_start_is_reported(
    project: Path, program: str, reason: str
) -> None:
    (project / "app.py").write_text(program)
    [(good, text)] = steps_of(project, "mail")
    assert not good
    assert reason in text


def test_without_a_project_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(NoProject):
        step(tmp_path, "mail")
