"""Hostile settings: each is taken or refused with its name, and what is taken works.

OFFLOAD_HOSTILE_EXAMPLES=2000 runs the long form.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_offload import ConfigError, Offload, OffloadError
from flask_offload.config import PREFIX, Config

EXAMPLES = int(os.environ.get("OFFLOAD_HOSTILE_EXAMPLES", "100"))
KEYS = [PREFIX + item.name.upper() for item in fields(Config)]

numbers = st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, -(10**400), 0.0, -0.0, 1e308])
numbers |= st.integers() | st.floats()
words = st.sampled_from(
    [
        *("", " ", "true", "False", "None", "null", "auto", "AUTO", "sqlite", "power ", "/", "//"),
        *(
            "\0",
            "/off\0load",
            "a/../..",
            "~",
            "~no-such-user/x",
            "/dev/null",
            "/proc/self/mem",
            ":memory:",
        ),
        *(
            "file:x?mode=memory",
            "x" * 5000,
            "<script>",
            "\u202e",
            "/<path:x>",
            "/{x}",
            "nan",
            "1e999",
        ),
        *("redis://", "redis://[::1", "\n", "os:system", "%s", "{0.__class__}"),
    ]
)
words |= st.text(max_size=20)
anything = (
    st.none()
    | st.booleans()
    | numbers
    | words
    | st.binary(max_size=8)
    | st.lists(words, max_size=2)
    | st.dictionaries(words, numbers, max_size=2)
    | st.sampled_from([object(), Offload, len, Path("x"), Ellipsis, NotImplemented, (1,), 1j])
)


def refusal(start: Callable[[], object], *errors: type[Exception]) -> str:
    """What one of these errors says; "" if there was none."""
    try:
        start()
    except errors as error:
        return str(error) or f"{type(error).__name__}, without a word"
    return ""


@settings(max_examples=EXAMPLES * 5, deadline=None)
@given(st.sampled_from(KEYS), anything)
def test_any_value_is_taken_or_refused_by_name(key: str, value: Any) -> None:
    app = Flask("some_app", instance_path="/nowhere")
    app.config[key] = value
    said = refusal(lambda: Config.from_app(app).database(app), ConfigError)
    assert not said or (key in said and "it takes" in said)


@settings(max_examples=EXAMPLES * 5, deadline=None)
@given(st.sampled_from(KEYS), words.filter(lambda text: "\0" not in text))
def test_any_text_in_the_environment_is_taken_or_refused_by_name(key: str, text: str) -> None:
    app = Flask("some_app", instance_path="/nowhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"FLASK_{key}", text)
        said = refusal(lambda: Config.from_app(app).database(app), ConfigError)
    assert not said or key in said


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), anything, max_size=4))
def test_an_app_starts_or_says_what_is_wrong(config: dict[str, Any]) -> None:
    app = Flask("some_app", instance_path="/nowhere")
    app.config.update(config)
    said = refusal(lambda: Offload(app), OffloadError)
    assert not said or any(key in said for key in config)


PATHS = ["/dev/null", "/dev/full", "/proc/self/mem", "/proc/x", "/", ".", "a/../..", "x" * 300]
PATHS += [
    "/etc/passwd/x",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "new\nline",
    "?mode=memory",
    "-",
    "a b'\";",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_strange_place_for_the_database_works_or_says_why_not(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = Flask("some_app", instance_path=str(tmp_path / "instance"))
    app.config.update(OFFLOAD_SQLITE_PATH=path, OFFLOAD_WORKER="off")

    def use() -> None:
        offload = Offload(app)
        task = offload.task(_nothing)
        try:
            with app.app_context():
                job = task.enqueue()
                assert offload.get_job(job.id).id == job.id
        finally:
            offload.state_of(app).engine.close()

    said = refusal(use, OffloadError)
    assert not said or len(said) > 20


def _nothing() -> None:
    pass
