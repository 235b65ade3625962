"""The profiler's advice about small blocking routes: never harmful, and right nearly always."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from advice_app import SITUATIONS, Situation, make_app
from blocking_app import Found, services
from flask_offload.profiler.spot_report import SpotReport

pytestmark = pytest.mark.processes


class Site:
    def __init__(self) -> None:
        importlib.import_module("asgiref.sync")  # the first async view would import it
        self.found = Found()
        app = make_app(self.found.settings(spot_above_ms=40.0))
        self.client: FlaskClient = app.test_client()

    def ask(self, situation: Situation) -> SpotReport:
        """Make the request; its report."""
        with self.client.open(situation.path, method=situation.method) as answer:
            answer.get_data()
        assert answer.status_code < 500
        return self.found.next()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with services():
        yield Site()


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.path)
def test_the_advice_fits_the_situation(site: Site, situation: Situation) -> None:
    for _ in range(10):  # on a busy machine a short request may hardly be seen
        report = site.ask(situation)
        if report.blockers and "not seen" not in report.sentence and "about" not in report.sentence:
            break
    first = report.blockers[0]
    assert first.advice == situation.right, report.sentence
    assert situation.words.lower() in report.sentence.lower()
