"""The OpenAPI description compared with real answers, and the headers as curl sees them."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from email.parser import Parser
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from support import require_tool, wait_until
from web_app import broken, give_up, patient, secret, shown, shown_failure, steps
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite, client_of, location, make_web_site, poll_until


@pytest.fixture
def description(client: FlaskClient) -> dict[str, Any]:
    described: dict[str, Any] = client.get("/offload/openapi.json").get_json()
    return described


@pytest.mark.processes
def test_the_description_is_valid(description: dict[str, Any]) -> None:
    validate(description)


def test_it_has_the_prefix_of_this_app(site: WebSite) -> None:
    moved = make_web_site(site.folder, OFFLOAD_URL_PREFIX="/background")
    with client_of(moved) as client:
        described = client.get(
            "/background/openapi.json", base_url="http://shop.example/sub"
        ).get_json()
    assert described["servers"] == [{"url": "/sub/background"}]


def test_every_address_of_a_job_is_described(site: WebSite, description: dict[str, Any]) -> None:
    rules = {
        rule.rule.removeprefix("/offload").replace("<", "{").replace(">", "}")
        for rule in site.app.url_map.iter_rules()
        if rule.rule.startswith("/offload/jobs")
    }
    assert rules == set(description["paths"])


class Checker:
    """Compares answers with the description; notes which of its responses it has seen."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        self.seen: set[tuple[str, str, str]] = set()

    def check(self, method: str, path: str, response: TestResponse) -> TestResponse:
        operation = self.description["paths"][path].get(method)
        status = str(response.status_code)
        if operation is None:  # a wrong method: as any problem
            described = self.description["components"]["responses"]["Problem"]
        else:
            described = self._resolved(operation["responses"][status])
            self.seen.add((method, path, status))
        content = described.get("content", {})
        if response.mimetype == "text/html" and response.data:
            assert content.keys() & {"text/html", "*/*"}
            return response
        for name, header in described.get("headers", {}).items():
            self._check_header(response, name, self._resolved(header))
        if not content:
            assert not response.data
        elif "*/*" not in content:
            self._validate(content[str(response.mimetype)]["schema"], response.get_json())
        return response

    def _check_header(self, response: TestResponse, name: str, header: Any) -> None:
        value: Any = response.headers.get(name)
        if value is None and name == "X-Progress":
            fraction = (response.get_json()["progress"] or {}).get("fraction")
            assert fraction is None or response.get_json()["finished_at"], "X-Progress is missing"
            return
        if value is None:
            finished = name == "Retry-After" and response.get_json()["finished_at"] is not None
            assert finished, f"{name} is missing"
            return
        if header["schema"]["type"] == "integer":
            value = int(value)
        self._validate(header["schema"], value)

    def _resolved(self, found: Any) -> Any:
        if "$ref" not in found:
            return found
        place: Any = self.description
        for part in found["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        return place

    def _validate(self, schema: Any, instance: Any) -> None:
        whole = {**self.description, **schema}
        Draft202012Validator(whole, format_checker=FormatChecker()).validate(instance)


def test_real_answers_are_as_described(
    client: FlaskClient, site: WebSite, description: dict[str, Any]
) -> None:
    checker = Checker(description)

    def ask(method: str, job_id: str, part: str = "", **options: Any) -> TestResponse:
        path = f"/jobs/{{job_id}}{part}"
        response = client.open(f"/offload/jobs/{job_id}{part}", method=method, **options)
        return checker.check(method.lower(), path, response)

    html = {"Accept": "text/html"}
    with site.app.app_context():
        later = steps.using(run_after=timedelta(hours=1))
        waiting, pressed = later.enqueue(["x"]).id, later.enqueue(["x"]).id
        ended = [
            (shown.enqueue("x").id, "SUCCESSFUL"),
            (secret.enqueue("x").id, "SUCCESSFUL"),
            (broken.enqueue("x").id, "FAILED"),
            (shown_failure.enqueue().id, "FAILED"),
            (give_up.enqueue().id, "CANCELLED"),
            (patient.enqueue().id, "READY"),
        ]
    for job_id, status in ended:
        poll_until(client, f"/offload/jobs/{job_id}", status)
        for part in ("", "/result"):
            ask("GET", job_id, part)
            ask("GET", job_id, part, headers=html)
    tag = ask("GET", waiting).headers["ETag"]
    assert ask("GET", waiting, headers={"If-None-Match": tag}).status_code == 304
    ask("PUT", waiting)
    ask("DELETE", waiting)
    ask("DELETE", ended[0][0])
    for part in ("/cancel", "/retry"):
        ask("POST", pressed, part, headers={"Sec-Fetch-Site": "cross-site"})
    ask("POST", pressed, "/cancel")
    site.open("x")
    ask("POST", pressed, "/retry")
    for method, part in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/result"),
        ("POST", "/result"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ]:
        ask(method, "unknown", part)
    running = location(client.post("/steps/oa")).rpartition("/")[2]
    poll_until(client, f"/offload/jobs/{running}", "RUNNING")
    ask("GET", running)
    ask("GET", running, "/result")
    ask("DELETE", running)
    early = location(client.get("/gated/oa2", headers={"Prefer": "respond-async"}))
    for part in ("", "/result"):
        ask("GET", early.rpartition("/")[2], part)
    site.open("oa2")
    poll_until(client, early, "SUCCESSFUL")
    ask("POST", early.rpartition("/")[2], "/result")
    reply = location(client.get("/answers/broken", headers={"Prefer": "respond-async"}))
    poll_until(client, reply, "FAILED")
    ask("GET", reply.rpartition("/")[2])
    ask("GET", reply.rpartition("/")[2], "/result")
    gone = location(client.post("/forgotten", headers={"Prefer": "respond-async"}))
    poll_until(client, gone, "SUCCESSFUL")
    wait_until(lambda: client.get(gone).status_code == 410)
    ask("GET", gone.rpartition("/")[2])
    unseen = {
        (method, path, status)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
        for status in operation["responses"]
    } - checker.seen
    # these need a client that hammers, or an engine that is away or can do less
    assert {status for _, _, status in unseen} <= {"405", "429", "501", "503", "default"}


# --- as curl sees it ---------------------------------------------------------------------------


def curl(*arguments: str) -> tuple[int, Any]:
    """Status and headers of an answer."""
    program = require_tool("curl")
    command = [program, "--silent", "--show-error", "--include", "--max-time", "10", *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line, _, rest = text.partition("\n")
    return int(line.split()[1]), Parser().parsestr(rest, headersonly=True)


@pytest.mark.processes
def test_curl_shows_each_documented_header(site: WebSite) -> None:
    with site.gunicorn() as origin:
        prefer = ("-H", "Prefer: respond-async, wait=0")
        status, first = curl(*prefer, f"{origin}/gated/curl")
        assert status == 202
        assert first["Preference-Applied"] == "respond-async, wait=0"
        assert "Prefer" in first["Vary"]
        assert int(first["Retry-After"]) >= 1
        url = first["Location"]
        assert url.startswith(f"{origin}/offload/jobs/")
        assert first["Content-Location"] == url
        assert first["Operation-Location"] is None
        status, found = curl(url)
        assert (status, found["Cache-Control"]) == (202, "no-store")
        assert found["Content-Type"] == "application/json"
        assert int(found["Retry-After"]) >= 1
        assert "Accept" in found["Vary"]
        status, tagged = curl("-H", f"If-None-Match: {found['ETag']}", url)
        assert (status, tagged["Retry-After"]) == (304, found["Retry-After"])
        assert curl(f"{url}?status")[0] == 200
        status, page = curl("-H", "Accept: text/html", url)
        assert (status, page["Referrer-Policy"], page["X-Frame-Options"]) == (
            202,
            "same-origin",
            "SAMEORIGIN",
        )
        assert int(page["Refresh"]) >= 2
        status, options = curl("-X", "OPTIONS", url)
        assert (status, options["Allow"]) == (204, "GET, DELETE, HEAD, OPTIONS")
        status, wrong = curl("-X", "PATCH", url)
        assert (status, wrong["Content-Type"]) == (405, "application/problem+json")
        site.open("curl")
        with client_of(site) as client:
            poll_until(client, urlsplit(url).path, "SUCCESSFUL")
        status, done = curl(url)
        assert (status, done["Location"]) == (302, urlsplit(url).path + "/result")
        assert curl(f"{url}?status")[0] == 200
        status, result = curl(f"{url}/result")
        assert (status, result["Cache-Control"]) == (200, "no-store")
        assert result["Retry-After"] is None


def test_an_engine_that_is_away_is_503(client: FlaskClient, site: WebSite) -> None:
    with site.app.app_context():
        url = f"/offload/jobs/{steps.using(run_after=timedelta(hours=1)).enqueue(['x']).id}"
    site.engine.close()
    path = site.engine.database.path
    hidden = path.with_name("hidden")
    path.rename(hidden)
    path.mkdir()
    try:
        response = client.get(url)
        moved = client.get("/gated/away", headers={"Prefer": "respond-async"})
    finally:
        path.rmdir()
        hidden.rename(path)
    for answer in (response, moved):
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
        assert int(answer.headers["Retry-After"]) >= 1
    assert client.get(url).status_code == 200
