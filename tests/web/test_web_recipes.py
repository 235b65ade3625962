"""The recipes of the documentation: their own code, run as it stands there."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browser_fixtures import browser_fixture  # noqa: F401 (fixtures)
from support import free_port, http_get, listening, missing, running
from web_browser import WATCH

pytestmark = pytest.mark.processes

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"

PREAMBLE = """
import os, time
from flask import Flask, Response, render_template, request
from flask_offload import Offload, current_job

app = Flask(__name__)
offload = Offload(app)

@app.after_request
def strict(response):
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self'")
    return response

@app.get("/files/<name>")
def files(name):
    return Response(open(name).read(), mimetype="text/javascript")

@app.get("/")
def index():
    return render_template("index.html")
"""


def code_of(recipe: str, language: str) -> list[str]:
    """The blocks of code of one language in a page of the documentation."""
    text = (RECIPES / recipe).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@contextmanager
def served(folder: Path, app: str, files: dict[str, str]) -> Iterator[str]:
    """The app, with its worker, as a newcomer runs it; gives its origin."""
    (folder / "templates").mkdir()
    (folder / "shop.py").write_text(PREAMBLE + app)
    for name, text in files.items():
        (folder / name).write_text(text)
    port = free_port()
    with running(
        [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)],
        cwd=folder,
        ready=lambda _: listening(port) and http_get(f"http://127.0.0.1:{port}/").status,
    ):
        yield f"http://127.0.0.1:{port}"


FETCH_PAGE = """<!doctype html><title>Report</title>
<form><input name="year" value="2026"></form><p id="out"></p>
<script type="module" src="/files/use.js"></script>"""

COUNT_ROWS = """
def count_rows(year):
    if current_job:
        time.sleep(2.5)
    return int(year)
"""


def test_plain_fetch(tmp_path: Path, browser: Browser) -> None:
    (view,) = code_of("fetch.md", "python")
    function, use = code_of("fetch.md", "js")
    shown = use.replace("console.log(", 'document.querySelector("#out").textContent = String([')
    shown = shown.rstrip().removesuffix(");") + "].map((part) => JSON.stringify(part)));"
    use = f'const form = document.querySelector("form");\n{shown}'
    files = {"templates/index.html": FETCH_PAGE, "use.js": f"{function}\n{use}"}
    with served(tmp_path, COUNT_ROWS + view, files) as origin:
        page = browser.new_page()
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status))
        page.goto(origin)
        expect(page.locator("#out")).to_have_text('200,{"rows":2026}')
        assert 202 in statuses  # it had to wait
        assert 302 in statuses
        page.close()


def htmx(version: int) -> str:
    """The library itself, as django-htmx brings it."""
    spec = importlib.util.find_spec("django_htmx")
    if spec is None or spec.origin is None:
        missing("django-htmx is not installed (requirements/dev.txt)")
    folder = Path(spec.origin).parent / "static" / "django_htmx"
    return (folder / f"htmx-{version}.min.js").read_text()


MAKE_THUMBNAILS = """
@offload.task
def make_thumbnails(album: str) -> int:
    for _ in current_job.track(range(20), message="shrinking"):
        time.sleep(0.1)
    return 20
"""

CONFIG = """<meta name="htmx-config" content='{"includeIndicatorStyles": false}'>"""


@pytest.mark.parametrize("version", [2, 4])
def test_htmx(tmp_path: Path, browser: Browser, version: int) -> None:
    (views,) = code_of("htmx.md", "python")
    pending, page_part = code_of("htmx.md", "html")
    files = {
        "templates/thumbnails_pending.html": pending,
        "templates/thumbnails_done.html": "<p>{{ count }} thumbnails</p>",
        "templates/index.html": "<!doctype html><title>Album</title>"
        f'{CONFIG}<script src="/files/htmx.js"></script>{page_part}',
        "htmx.js": htmx(version),
    }
    with served(tmp_path, MAKE_THUMBNAILS + views, files) as origin:
        page = browser.new_page()
        page.add_init_script(WATCH)
        page.goto(origin)
        page.get_by_role("button", name="Make thumbnails").click()
        expect(page.get_by_role("status")).to_have_text("shrinking")
        expect(page.get_by_text("20 thumbnails")).to_be_visible()
        assert page.url.rstrip("/") == origin
        assert page.evaluate("window.violations") == []
        page.close()
