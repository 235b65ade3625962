"""The words of the pages in the visitor's language, and where a page leads."""

from __future__ import annotations

import io
import string
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask_babel
import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import Flask, request

from flask_offload import ConfigError, Discard, Job, Offload
from flask_offload.testing import drain
from flask_offload.web.words import INCLUDED, say

HTML = {"Accept": "text/html"}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    made: list[Offload] = []

    def make(**config: Any) -> Flask:
        offload = Offload()
        app = Flask(__name__, root_path=str(tmp_path))
        app.config.update(
            TESTING=True,
            OFFLOAD_SPOT=False,
            OFFLOAD_SQLITE_PATH=tmp_path / f"{len(made)}.sqlite3",
            **config,
        )
        made.append(offload)
        offload.init_app(app)

        @offload.task(max_attempts=2, backoff=3600.0, expose="result")
        def work(outcome: str) -> str:
            if outcome != "fine":
                raise Discard("no") if outcome == "discard" else RuntimeError(outcome)
            return outcome

        @app.post("/go/<outcome>")
        def go(outcome: str) -> Any:
            return offload.accepted(work.enqueue(outcome), then=request.args.get("then"))

        return app

    yield make
    for offload in made:
        for state in offload.states.values():
            state.engine.close()


def job_of(app: Flask, outcome: str = "fine") -> Job:
    job_id = app.test_client().post(f"/go/{outcome}").get_json()["id"]
    with app.app_context():
        job: Job = app.extensions["offload"].get_job(job_id)
    return job


def page_of(app: Flask, job: Job, **headers: str) -> str:
    found = app.test_client().get(f"/offload/jobs/{job.id}", headers={**HTML, **headers})
    return found.get_data(as_text=True)


# --- languages ---------------------------------------------------------------------------------


def braces(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_the_languages_are_complete() -> None:
    german, spanish = INCLUDED["de"], INCLUDED["es"]
    assert german.keys() == spanish.keys()
    for words in INCLUDED.values():
        for text, translated in words.items():
            assert braces(text) == braces(translated)
            assert text[-1:] == translated[-1:] or text[-1:].isalnum() or text[-1:] in "}%"


def test_every_text_of_the_pages_is_translated() -> None:
    folder = Path(__file__).parents[2] / "src" / "flask_offload" / "web"
    used = set()
    for path in (folder / "templates" / "offload").glob("*.html"):
        used |= {part.rpartition('"')[2] for part in path.read_text().split('" | offload_say')[:-1]}
    assert {"Back", "Progress", "Show the result"} <= used
    assert used <= INCLUDED["de"].keys()


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("de", ("Wartet auf den Start", "Abbrechen", "Fertig", "Ergebnis zeigen", "Zurück")),
        ("es", ("En espera", "Cancelar", "Listo", "Ver el resultado", "Volver")),
        ("en", ("Waiting to start", "Cancel", "Done", "Show the result", "Back")),
        ("fr", ("Un instant", "Cancel", "Done", "Show the result", "Back")),
    ],
)
def test_flask_babel_chooses_the_language(
    make: Callable[..., Flask], tmp_path: Path, language: str, texts: tuple[str, ...]
) -> None:
    folder = tmp_path / "translations" / "fr" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    catalog = read_po(io.BytesIO(b'msgid "Waiting to start"\nmsgstr "Un instant"\n'), locale="fr")
    with (folder / "messages.mo").open("wb") as file:
        write_mo(file, catalog)
    app = make()
    flask_babel.Babel(app, locale_selector=lambda: request.headers.get("Accept-Language"))
    job = job_of(app)
    asked = {"Accept-Language": language}
    waiting = page_of(app, job, **asked)
    drain(app)
    done = page_of(app, job, **asked)
    assert f'<html lang="{language}">' in waiting
    for text in texts[:2]:
        assert text in waiting
    for text in texts[2:]:
        assert text in done
    seen = app.test_client().get(f"/offload/jobs/{job.id}", headers=asked)
    assert seen.json["texts"]["heading"] == texts[2]  # type: ignore[index]
    other = {"Accept-Language": "es" if language != "es" else "de"}
    tag = {"If-None-Match": seen.headers["ETag"]}
    assert (
        app.test_client().get(f"/offload/jobs/{job.id}", headers={**tag, **asked}).status_code
        == 304
    )
    assert (
        app.test_client().get(f"/offload/jobs/{job.id}", headers={**tag, **other}).status_code
        == 200
    )


def test_without_flask_babel_one_setting_does(make: Callable[..., Flask]) -> None:
    german = make(OFFLOAD_WORDS="de")
    page = page_of(german, job_of(german), **{"Accept-Language": "es"})
    assert '<html lang="de">' in page
    assert "Wartet auf den Start" in page
    missing = german.test_client().get("/offload/jobs/x", headers=HTML).get_data(as_text=True)
    assert "Nicht gefunden" in missing
    assert "Diesen Auftrag gibt es nicht" in missing
    own = make(OFFLOAD_WORDS={"Waiting to start": "Hang on", "{time} left": "{wrong} left"})
    assert "Hang on" in page_of(own, job_of(own))
    with own.app_context():
        assert say("{time} left", time="1 s") == "1 s left"


@pytest.mark.parametrize("words", ["fr", 7, {"Done": 1}, ["de"]])
def test_other_words_are_refused(make: Callable[..., Flask], words: object) -> None:
    with pytest.raises(ConfigError, match="OFFLOAD_WORDS"):
        make(OFFLOAD_WORDS=words)


# --- what the page says ------------------------------------------------------------------------


def test_between_two_attempts_it_says_so(make: Callable[..., Flask]) -> None:
    app = make()
    job = job_of(app, "broken")
    drain(app, until=timedelta(minutes=1))
    page = page_of(app, job)
    assert "Trying again soon</h1>" in page
    assert "Attempt 1 did not succeed." in page
    assert "Waiting to start" not in page
    assert page.count("Trying again soon") == 2  # the title and the heading


def test_nothing_is_said_twice(make: Callable[..., Flask]) -> None:
    app = make()
    assert page_of(app, job_of(app)).count("Waiting to start") == 2


def test_a_failure_has_a_reference_that_finds_it(make: Callable[..., Flask]) -> None:
    app = make()
    job = job_of(app, "broken")
    drain(app)
    page = page_of(app, job)
    assert "That didn" in page
    _, _, reference = page.partition("Reference: ")
    reference = reference.partition("<")[0]
    assert len(reference) < 16
    with app.app_context():
        assert app.extensions["offload"].engine.ids(reference) == [job.id]
    assert "Reference" not in page_of(app, job_of(app, "fine"))


# --- where it leads ----------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["/albums/7", "/a?b=c&d=e#f", "http://localhost/albums/7"])
def test_a_page_leads_to_then(make: Callable[..., Flask], then: str) -> None:
    app = make()
    client = app.test_client()
    query = {"then": then}
    url = client.post("/go/fine", query_string=query, headers=HTML).headers["Location"]
    waiting = client.get(url, headers=HTML)
    assert waiting.status_code == 200
    assert "Refresh" in waiting.headers
    drain(app)
    ended = client.get(url, headers=HTML)
    expected = urlsplit(then)._replace(scheme="", netloc="").geturl()
    assert (ended.status_code, ended.headers["Location"]) == (302, expected)
    assert client.get(url).status_code == 200  # a program reads the document


def test_then_is_kept_by_the_buttons(make: Callable[..., Flask]) -> None:
    app = make()
    client = app.test_client()
    url = client.post("/go/fine?then=/next", headers=HTML).headers["Location"]
    page = client.get(url, headers=HTML).get_data(as_text=True)
    assert '/cancel?then=%2Fnext"' in page
    path, _, query = url.partition("?")
    cancelled = client.post(f"{path}/cancel?{query}")
    assert (cancelled.status_code, cancelled.headers["Location"]) == (303, url)
    assert "Cancelled" in client.get(url, headers=HTML).get_data(as_text=True)
    retried = client.post(f"{path}/retry?{query}")
    assert retried.headers["Location"] == url
    drain(app)
    assert client.get(url, headers=HTML).headers["Location"] == "/next"


ELSEWHERE = [
    *("https://evil.example/", "//evil.example/", "/\\evil.example", "\\/evil.example"),
    *("http://localhost//evil.example", "javascript:alert(1)", "done", "", "/\t/evil.example"),
    *("http:///evil.example", "/" + "x" * 2000, "data:text/html,x", "http://localhost:81/x"),
]


@pytest.mark.parametrize("then", ELSEWHERE)
def test_no_page_leads_to_another_site(make: Callable[..., Flask], then: str) -> None:
    app = make()
    client = app.test_client()
    with pytest.raises(ValueError, match="not an address of this app"):
        client.post("/go/fine", query_string={"then": then}, headers=HTML)
    job = job_of(app)
    drain(app)
    response = client.get(f"/offload/jobs/{job.id}", query_string={"then": then}, headers=HTML)
    assert response.status_code == 200
    assert "evil" not in response.get_data(as_text=True)
