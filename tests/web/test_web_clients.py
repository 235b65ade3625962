"""HTTP clients that were written for other servers, and clients that are generated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from browser_fixtures import browser_fixture, origin_fixture  # noqa: F401 (fixtures)
from support import http_get, http_post, missing, require_tool, wait_until
from web_app import broken, shown, steps
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite

pytestmark = pytest.mark.processes

CLIENTS = Path(__file__).parents[1] / "clients"

PYTHON = [
    *("azure_core", "azure_core_location", "urllib3_retry"),
    *("requests_loop", "httpx_loop", "httpx_without_redirects"),
]
NODE = ["whileStatusIs202", "azureCoreLro", "medplum"]


def printed(*command: str, timeout: float = 60) -> Any:
    """What a client prints, as JSON."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm packages of tests/clients/package.json."""
    npm = require_tool("npm")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "node_clients.mjs"):
        shutil.copy(CLIENTS / name, folder)
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    command = [npm, "install", *options]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
    except (subprocess.SubprocessError, OSError) as error:
        missing(f"the npm packages of tests/clients/package.json can't be installed: {error}")
    return folder


def all_results(origin: str, names: list[str], *program: str) -> dict[tuple[str, str], Any]:
    """What each client gets of a view that works, and of one that fails."""
    cases = [(name, outcome) for name in names for outcome in ("fine", "broken")]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(
            lambda case: printed(*program, case[0], f"{origin}/long-running/{case[1]}"), cases
        )
        return dict(zip(cases, results, strict=True))


@pytest.fixture(scope="module")
def python_results(origin: str) -> dict[tuple[str, str], Any]:
    return all_results(origin, PYTHON, sys.executable, str(CLIENTS / "python_clients.py"))


@pytest.fixture(scope="module")
def node_results(origin: str, packages: Path) -> dict[tuple[str, str], Any]:
    node = require_tool("node")
    return all_results(origin, NODE, node, str(packages / "node_clients.mjs"))


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_client(python_results: dict[tuple[str, str], Any], name: str) -> None:
    assert python_results[name, "fine"] == {"result": {"report": "fine"}}
    assert "500" in (failed := python_results[name, "broken"]["failed"]) or "SERVER" in failed


@pytest.mark.parametrize("name", NODE)
def test_a_client_for_node(node_results: dict[tuple[str, str], Any], name: str) -> None:
    assert node_results[name, "fine"] == {"result": {"report": "fine"}}
    failed = node_results[name, "broken"]["failed"]
    assert "500" in failed or "operation has failed" in failed


def test_turbo_shows_the_waiting_page_and_then_the_result(
    site: WebSite, origin: str, packages: Path, browser: Browser
) -> None:
    page = browser.new_page()
    turbo = (packages / "node_modules/@hotwired/turbo/dist/turbo.es2017-umd.js").read_text()
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status))
    page.goto(f"{origin}/form/turbo")
    page.evaluate("document.documentElement.dataset.sameDocument = ''")
    page.evaluate(turbo)
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_text("step 1 of 3")).to_be_visible()
    assert 202 in statuses
    assert page.locator("html[data-same-document]").count() == 1, "Turbo did not take the form"
    site.open("turbo-0", "turbo-1", "turbo-2")
    expect(page.get_by_role("heading", name="Hello Ada")).to_be_visible()
    page.close()


@pytest.fixture(scope="module")
def jobs(site: WebSite, origin: str) -> Iterator[dict[str, str]]:
    """Ids of jobs in each state."""
    with site.app.app_context():
        made = {
            "waiting": steps.using(run_after=timedelta(hours=1)).enqueue(["generated"]).id,
            "finished": shown.enqueue("x").id,
            "failed": broken.enqueue("x").id,
        }
    for path, name in (("fine", "view"), ("broken", "failed view")):
        url = f"{origin}/long-running/{path}"
        made[name] = http_post(url, headers={"Prefer": "respond-async"}).json()["id"]
    running = http_post(f"{origin}/steps/generated").json()["id"]
    ended = [made[name] for name in made if name != "waiting"]
    wait_until(lambda: all(site.job(job_id).is_finished for job_id in ended), 20)
    wait_until(lambda: site.job(running).started_at, 20)
    yield {**made, "running": running, "unknown": "0" * 44}
    site.open("generated")


def test_a_client_generated_by_openapi_python_client(
    origin: str, jobs: dict[str, str], tmp_path: Path
) -> None:
    generator = require_tool("openapi-python-client")
    description = tmp_path / "openapi.json"
    description.write_text(http_get(f"{origin}/offload/openapi.json").text)
    arguments = ("generate", "--path", description, "--meta", "none", "--overwrite")
    made = subprocess.run(
        [generator, *arguments, "--output-path", tmp_path / "generated"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    # one warning: the response of a view may be of any type
    assert made.stderr.count("WARNING parsing") == 1, made.stderr
    shutil.copy(CLIENTS / "generated_client.py", tmp_path)
    seen = printed(
        *(sys.executable, str(tmp_path / "generated_client.py"), origin),
        *(f"{name}={job_id}" for name, job_id in jobs.items()),
    )
    assert seen == {
        "waiting": ["200 Job READY", "200 Job READY", "200 Job CANCELLED"],
        "running": ["200 Job RUNNING", "200 Job RUNNING", "202 Job RUNNING"],
        "finished": ["200 Job SUCCESSFUL", "200 Job SUCCESSFUL", "409 Problem Conflict"],
        "failed": ["200 Job FAILED", "200 Job FAILED", "409 Problem Conflict"],
        "view": ["200 Job SUCCESSFUL", "302 NoneType None", "409 Problem Conflict"],
        "failed view": ["200 Job FAILED", "302 NoneType None", "409 Problem Conflict"],
        "unknown": ["404 Problem Not Found"] * 3,
    }


SCHEMATHESIS = """
import json, sys
import schemathesis
from schemathesis.checks import not_a_server_error
from hypothesis import HealthCheck, given, settings, strategies

origin, *ids = sys.argv[1:]
schema = schemathesis.openapi.from_url(f"{origin}/offload/openapi.json")
statuses = {}
for found in schema.get_all_operations():
    operation = found.ok()
    seen = statuses.setdefault(operation.label, [])

    @settings(max_examples=40, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(), strategies.sampled_from(ids))
    def check(case, job_id):
        case.path_parameters["job_id"] = job_id
        response = case.call(allow_redirects=False)
        seen.append(response.status_code)
        # the result of a view that failed is a 500, as it is without a job
        by_design = operation.label == "GET /jobs/{job_id}/result" and response.status_code == 500
        case.validate_response(response, excluded_checks=[not_a_server_error] * by_design)

    check()
print(json.dumps({label: sorted(set(seen)) for label, seen in statuses.items()}))
"""


def test_schemathesis_with_real_ids(origin: str, jobs: dict[str, str]) -> None:
    ids = [job_id for name, job_id in jobs.items() if name not in ("waiting", "running")]
    seen = printed(sys.executable, "-c", SCHEMATHESIS, origin, *ids, timeout=100)
    assert len(seen) == 6
    assert {200, 302, 404} <= set(seen["GET /jobs/{job_id}"])
    assert {200, 404, 500} <= set(seen["GET /jobs/{job_id}/result"])
    assert {404, 409} <= set(seen["DELETE /jobs/{job_id}"])
