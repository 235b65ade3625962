"""`Prefer` and `Accept`, read from their headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from flask_offload.web.preferences import Preferences, prefers_html

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Preferences()),
        ("respond-async", Preferences(respond_async=True)),
        ("Respond-Async", Preferences(respond_async=True)),
        ("respond-async, wait=10", Preferences(True, 10)),
        ("wait=10,respond-async", Preferences(True, 10)),
        ("respond-async; foo=bar, wait=5; x", Preferences(True, 5)),
        ('respond-async, wait="7"', Preferences(True, 7)),
        ("respond-async , wait = 3", Preferences(True, 3)),
        ("wait=0", Preferences(wait=0)),
        ("wait=1, wait=9", Preferences(wait=1)),  # RFC 7240, 2: the first counts
        ("wait=soon", Preferences()),
        ("wait=-1", Preferences()),
        ("wait=1.5", Preferences()),
        ("wait=²", Preferences()),
        ("wait", Preferences()),
        ('foo="a, respond-async, b"', Preferences()),
        ('foo="a \\" respond-async", respond-async', Preferences(True)),
        ("return=minimal, handling=lenient, respond-async=", Preferences(True)),
        (", ,respond-async,", Preferences(True)),
        ("respond-asynchronously", Preferences()),
    ],
)
def test_prefer_is_read_as_the_rfc_says(header: str, expected: Preferences) -> None:
    assert Preferences.parse(header) == expected


@given(st.text())
def test_any_prefer_header_can_be_read(header: str) -> None:
    found = Preferences.parse(header)
    assert found.wait is None or found.wait >= 0


@given(st.text(alphabet='"\\,=; wait0respond-async', max_size=2000))
def test_quotes_and_commas_in_any_order_can_be_read(header: str) -> None:
    Preferences.parse(header)


def test_a_monstrous_header_costs_little() -> None:
    """Quotes without an end must not be searched for again and again."""
    assert Preferences.parse('"' * 200_000) == Preferences()
    assert Preferences.parse('"\\' * 100_000) == Preferences()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (FIREFOX, True),
        ("text/html", True),
        ("application/json;q=0.5, text/html;q=0.6", True),
        ("application/xhtml+xml", True),
        ("application/json, text/html", False),
        ("application/json", False),
        ("application/problem+json, text/html;q=0.9", False),
        ("*/*", False),
        ("", False),
        ("image/png", False),
    ],
)
def test_a_page_is_for_those_who_rather_have_one(accept: str, expected: bool) -> None:
    assert prefers_html(parse_accept_header(accept, MIMEAccept)) is expected
