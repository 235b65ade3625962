"""Hostile text in everything that a page shows: it stays text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import render_template_string

from flask_offload import Job
from flask_offload.testing import drain
from lab_support import RunningLab, lab_running
from support import http_request
from web_app import give_up, offload, shown_failure, steps
from web_servers import WebSite, make_web_site

HTML = {"Accept": "text/html"}
HARMLESS = "x"
CORPUS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "</title><script>alert(1)</script>",
    "</pre></details><iframe src=javascript:alert(1)>",
    "<!--><script>alert(1)</script>-->",
    "{{ 7 * 7 }}{% raw %}<b>{{ config }}",
    "javascript:alert(1)",
    "&lt;b&gt;&#60;script&#62;",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "\u202e<b>\u2028</b>\x00\x1b[31m",
    "<<scr<script>ipt>",
    "</progress><base href=//evil.example>",
]


class Skeleton(HTMLParser):
    """The elements and the names of their attributes, without what they say."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append(f"<{tag} {' '.join(name for name, _ in attrs)}>")

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        self.parts.append("<!--")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> WebSite:
    return make_web_site(tmp_path_factory.mktemp("pages"), OFFLOAD_POLL_LIMIT=0)


@pytest.fixture
def jobs(site: WebSite) -> Iterator[dict[str, Job]]:
    with site.app.app_context():
        later = steps.using(run_after=timedelta(hours=1))
        found = {
            "waiting": later.enqueue(["x"]),
            "running": later.enqueue(["x"]),
            "failed": shown_failure.enqueue(),
            "cancelled": give_up.enqueue(),
        }
        drain(site.app)
        yield found
    site.engine.close()


def say(site: WebSite, jobs: dict[str, Job], text: str) -> None:
    """Put the text wherever a task, or the code that enqueues it, can put one."""
    job_of = "(SELECT seq FROM jobs WHERE id = ?)"
    statements = [
        (
            "UPDATE jobs SET state = 'running', attempt = 1, done = 1, total = 2, message = ?"
            " WHERE id = ?",
            (text, jobs["running"].id),
        ),
        *(
            (
                f"UPDATE attempts SET error_message = ?, traceback = ? WHERE seq = {job_of}",
                (text, text, jobs[name].id),
            )
            for name in ("failed", "cancelled")
        ),
        *(("UPDATE jobs SET owner = ? WHERE id = ?", (text, job.id)) for job in jobs.values()),
    ]
    for statement, values in statements:
        site.engine.database.write(
            lambda connection, statement=statement, values=values: connection.execute(  # type: ignore[misc]
                statement, values
            ).fetchall()
        )


def pages(site: WebSite, jobs: dict[str, Job], text: str) -> dict[str, str]:
    """Every page on which the text may appear."""
    say(site, jobs, text)
    client = site.app.test_client()
    urls = {name: f"/offload/jobs/{job.id}" for name, job in jobs.items()}
    urls |= {f"{name}, result": f"{urls[name]}/result" for name in ("failed", "cancelled")}
    in_a_path = quote(text.replace("/", " "), safe="")  # a slash makes another address of it
    urls["no such job"] = f"/offload/jobs/{in_a_path}"
    urls["no such job, query"] = f"/offload/jobs/x?{quote(text)}={quote(text)}"
    found = {name: client.get(url, headers=HTML).text for name, url in urls.items()}
    found["wrong method"] = client.put(urls["waiting"], headers=HTML).text
    found["foreign button"] = client.post(
        f"{urls['waiting']}/cancel", headers={**HTML, "Sec-Fetch-Site": "cross-site"}
    ).text
    site.app.debug = True
    found["failed, debug"] = client.get(urls["failed"], headers=HTML).text
    site.app.debug = False
    with site.app.test_request_context():
        found["element"] = render_template_string(
            "{{ offload_progress(job) }}", job=offload.get_job(jobs["running"].id)
        )
    return found


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_adds_no_element_and_no_attribute(
    site: WebSite, jobs: dict[str, Job], text: str
) -> None:
    good, bad = pages(site, jobs, HARMLESS), pages(site, jobs, text)
    for name in good:
        assert Skeleton(bad[name]).parts == Skeleton(good[name]).parts, name
    for name in ("running", "failed", "failed, debug", "element"):  # it is shown there indeed
        assert "alert(1)" not in text or "alert(1)" in Skeleton(bad[name]).text, name


# --- the lab -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(processes: None) -> Iterator[RunningLab]:
    with lab_running() as found:
        yield found


VISITED = ["/", "/why", "/see", "/try", "/spot", "/fix", "/build", "/recall", "/slow/forecast"]
FORMS = ["/done/why", "/recall", "/run/race", "/photo", "/photo/remove"]
SAMPLE_APP_PAGES = ["/", "/newsletter", "/gallery", "/order", "/tags", "/members"]


@pytest.mark.processes
def test_the_lab_shows_no_hostile_text_as_html(lab: RunningLab) -> None:
    for text in CORPUS[:8]:
        asked = quote(text)
        for path in VISITED:
            answer = lab.get(f"{path}?q={asked}&address={asked}&{asked}=1&reason={asked}")
            assert text not in answer.text, path
            assert answer.status < 500
        for origin in (lab.origin, lab.sample_app):
            answer = http_request("GET", f"{origin}/{quote(text, safe='')}")
            assert (answer.status, text in answer.text) == (404, False)
        for path in SAMPLE_APP_PAGES:
            answer = http_request("GET", f"{lab.sample_app}{path}?address={asked}&name={asked}")
            assert text not in answer.text, path
            assert answer.status < 500, path
        answer = lab.post("/recall", {"answer": text, text: text})
        assert text not in answer.text
        assert answer.status < 500


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
        {},
    ],
)
@pytest.mark.parametrize("path", FORMS)
def test_no_form_of_the_lab_is_taken_from_elsewhere(
    lab: RunningLab, path: str, headers: dict[str, str]
) -> None:
    answer = http_request("POST", lab.origin + path, form={"x": "y"}, headers=headers)
    assert answer.status == 403


def test_the_lab_answers_under_its_own_name_only(lab: RunningLab, tmp_path: Path) -> None:
    """A foreign name that resolves to this server (DNS rebinding) opens nothing."""
    for path in (*VISITED, "/offload/jobs/x", "/offload/openapi.json", "/static/x"):
        assert lab.get(path, Host="evil.example").status == 403
