"""Templates of the app's own, and the same answers with an engine that runs jobs at once."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from flask_offload import Offload
from flask_offload.web.pages import sentence
from web_app import offload, steps
from web_servers import client_of, location, make_web_site

HTML = {"Accept": "text/html"}

LAYOUT = """<!doctype html><title>My shop: {% block title %}{% endblock %}</title>
{% block head %}{% endblock %}<nav>My shop</nav>{% block content %}{% endblock %}"""


def test_an_app_gives_the_pages_its_own_layout(tmp_path: Path) -> None:
    """With the very template of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    templates = tmp_path / "templates" / "offload"
    templates.mkdir(parents=True)
    (base,) = re.findall(r'```html\n(\{% extends "layout.html" %\}.*?)```', text, re.DOTALL)
    (templates / "base.html").write_text(base)
    (templates.parent / "layout.html").write_text(LAYOUT)
    site = make_web_site(tmp_path)
    site.app.template_folder = str(tmp_path / "templates")
    with client_of(site) as client, site.app.app_context():
        job = steps.using(run_after=timedelta(hours=1)).enqueue(["x"])
        page = client.get(f"/offload/jobs/{job.id}", headers=HTML).text
        missing = client.get("/offload/jobs/nope", headers=HTML).text
    assert "<nav>My shop</nav>" in page
    assert "<title>My shop: Waiting to start</title>" in page
    assert 'role="status"' in page
    assert "offload-job.js" in page
    assert "offload.css" in page
    assert "<nav>My shop</nav>" in missing
    assert "There is no such job" in missing


def test_what_a_task_says_is_text_not_html(tmp_path: Path) -> None:
    site = make_web_site(tmp_path)
    with client_of(site) as client, site.app.app_context():
        job = steps.using(run_after=timedelta(hours=1)).enqueue(["x"])
        site.engine.database.write(
            lambda connection: connection.execute(
                "UPDATE jobs SET state = 'running', done = 1, message = '<b>bold</b>'"
            )
        )
        page = client.get(f"/offload/jobs/{job.id}", headers=HTML).text
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold</b>" not in page


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no such row", "No such row."),
        ("It is gone!", "It is gone!"),
        ("é", "É."),
        (" \n", ""),
    ],
)
def test_messages_become_sentences(message: str, shown: str) -> None:
    assert sentence(message) == shown


def test_a_form_gets_a_fresh_key(tmp_path: Path) -> None:
    site = make_web_site(tmp_path)
    with site.app.app_context():
        template = site.app.jinja_env.from_string("{{ offload_idempotency_key() }}")
        keys = {template.render() for _ in range(10)}
    assert len(keys) == 10
    assert {len(key) for key in keys} == {32}


def test_with_the_inline_engine_the_answer_is_there_at_once(tmp_path: Path) -> None:
    app, inline = Flask(__name__, instance_path=str(tmp_path)), Offload()
    app.config.update(OFFLOAD_ENGINE="inline", SECRET_KEY="for tests")
    inline.init_app(app)

    @app.post("/double/<int:number>")
    @inline.respond_async
    def double(number: int) -> str:
        return str(2 * number)

    client = app.test_client()
    response = client.post("/double/21", headers={"Prefer": "respond-async"})
    assert (response.status_code, response.text) == (200, "42")
    assert response.headers["Preference-Applied"] == "respond-async"


def test_two_apps_of_one_offload_have_their_own_addresses(tmp_path: Path) -> None:
    one = make_web_site(tmp_path, OFFLOAD_URL_PREFIX="/one")
    (tmp_path / "b").mkdir()
    two = make_web_site(tmp_path / "b", OFFLOAD_URL_PREFIX="/two")
    with client_of(one) as first, client_of(two) as second:
        assert location(first.post("/steps/x")).startswith("/one/jobs/")
        url = location(second.post("/steps/x"))
        assert url.startswith("/two/jobs/")
        assert second.get(url).status_code == 200
        assert first.get(url.replace("/two", "/one")).status_code == 404
    assert offload.authorizer is None
