"""docs/engines.md agrees with the code."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import engine_docs
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.base import Flags
from flask_offload.feature_checks import FLAG_OF_OPTION


def test_what_is_made_from_the_code_is_fresh() -> None:
    page = engine_docs.PAGE.read_text()
    assert page == engine_docs.renewed(page, engine_docs.parts()), "call `make docs`"


def test_a_flag_that_changes_makes_the_page_stale() -> None:
    class Without(SqliteEngine):
        flags = replace(SqliteEngine.flags, pauses=False)

    page = engine_docs.PAGE.read_text()
    made = {**engine_docs.parts(), "flags": engine_docs.table((Without, *engine_docs.ENGINES[1:]))}
    assert page != engine_docs.renewed(page, made)


def test_a_page_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="0 places for 'flags'"):
        engine_docs.renewed("# Engines", {"flags": "…"})


def test_every_flag_has_its_meaning_and_every_option_its_row() -> None:
    assert list(engine_docs.meanings()) == Flags.names()
    page = engine_docs.PAGE.read_text()
    for option, flag in FLAG_OF_OPTION.items():
        assert re.search(rf"(?m)^\| .*`{option}=`.* \| `{flag}` \|", page), option
