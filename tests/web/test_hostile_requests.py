"""Hostile requests: each response is a documented one, and no job or session is affected.

OFFLOAD_HOSTILE_EXAMPLES=2000 runs the long form.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import socket
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_offload.testing import drain
from proc import descendants
from support import http_get, listening
from web_app import broken, give_up, patient, secret, shown, shown_failure, steps
from web_servers import WebSite, location, make_web_site

EXAMPLES = int(os.environ.get("OFFLOAD_HOSTILE_EXAMPLES", "100"))
MARK = "hush, a secret of the task"
DEEP = "[" * 100_000
ASYNC_AND_MORE = 'respond-async;x="\\"", wait=0, wait=9, =, , handling'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> WebSite:
    return make_web_site(tmp_path_factory.mktemp("hostile"), OFFLOAD_POLL_LIMIT=0)


@pytest.fixture(autouse=True)
def let_go(site: WebSite) -> Iterator[None]:
    yield
    site.engine.close()


@pytest.fixture(scope="module")
def ids(site: WebSite) -> list[str]:
    """A job of each kind and in each state."""
    client = site.app.test_client()
    replies = [
        location(client.get(f"/answers/{kind}", headers={"Prefer": "respond-async"}))
        for kind in ("broken", "bytes", "redirect", "cookie", "plain")
    ]
    with site.app.app_context():
        later = steps.using(run_after=timedelta(hours=1))
        ended = [shown.enqueue("x"), secret.enqueue(MARK), broken.enqueue(MARK), give_up.enqueue()]
        ended += [shown_failure.enqueue(), patient.enqueue()]
        drain(site.app)
        waiting, running = later.enqueue(["x"]), later.enqueue(["x"])
        site.engine.database.write(
            lambda connection: connection.execute(
                "UPDATE jobs SET state = 'running', attempt = 1, done = 1, total = 3,"
                " message = 'half' WHERE id = ?",
                (running.id,),
            ).fetchall()
        )
    site.engine.close()
    return [
        *(url.rpartition("/")[2] for url in replies),
        *(job.id for job in (*ended, waiting, running)),
    ]


# --- any request at all ------------------------------------------------------------------------

PARTS = ["", "/result", "/cancel", "/retry"]
SAFE = ["GET", "HEAD", "OPTIONS"]
METHODS = [*SAFE, "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"]
STRANGE_IDS = ["", ".", "..", "%", "%00", "\0", "0" * 5000, "../../etc/passwd", "<script>", "a'--"]
STRANGE_IDS += ["\u202e", "\N{FULLWIDTH DIGIT ONE}" * 44, "-1", "0x1", "1e9", " ", "job\r\nX: y"]
NOT_IN_HEADERS = "\r\n\0"
texts = st.text(st.characters(max_codepoint=255, exclude_characters=NOT_IN_HEADERS), max_size=40)
header = st.sampled_from(
    [
        *("Accept", "Accept-Encoding", "Content-Type", "Cookie", "If-None-Match", "Prefer"),
        *("Origin", "Sec-Fetch-Site", "Range", "Idempotency-Key", "X-Forwarded-For", "X-User"),
        *("Content-Length", "If-Match", "Authorization", "X-HTTP-Method-Override", "Referer"),
    ]
)
value = texts | st.sampled_from(
    [
        *("text/html", "*/*;q=0", "text/html;q=nan", "application/json", "null", "0" * 1000),
        *("respond-async", "respond-async, wait=0", "wait=" + "9" * 900, 'respond-async="', "W/*"),
        *("http://evil.example", "cross-site", "same-origin", '"' * 500, "," * 900, "DELETE"),
        *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "bytes=0-1"),
    ]
)
body = (
    st.binary(max_size=200)
    | texts.map(str.encode)
    | st.sampled_from(
        [
            *(DEEP.encode(), b'{"a":' * 50_000, b"9" * 100_000, b'{"$":["row","os:system",[]]}'),
            *(b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n", b"a=1&" * 5000, b"%ff%fe="),
        ]
    )
)


def path_of(site: WebSite, ids: list[str], data: st.DataObject) -> tuple[str, str]:
    """An address, and its part behind the id; "view" for one of a moved view."""
    kind = data.draw(st.sampled_from(["job", "damaged", "strange", "view", "asset", "any"]))
    if kind == "view":
        view = data.draw(st.sampled_from(["/echo/", "/answers/", "/gated/", "/slow-form"]))
        rest = "" if view == "/slow-form" else quote(data.draw(texts), safe="")
        return view + rest, "view"
    if kind == "asset":
        rest = data.draw(st.sampled_from(["assets/x/../../jobs", "assets/x/offload.css", "assets"]))
        return f"/offload/{rest}", "view"
    if kind == "any":  # of all that there are, so that none is forgotten
        found = [rule.rule for rule in site.app.url_map.iter_rules() if "offload" in rule.endpoint]
        rule = data.draw(st.sampled_from(sorted(found)))
        return re.sub(r"<\w+>", lambda _: quote(data.draw(texts)), rule), "view"
    job_id = data.draw(st.sampled_from(ids))
    if kind == "damaged":
        at = data.draw(st.integers(0, len(job_id)))
        job_id = job_id[:at] + data.draw(st.text(max_size=3)) + job_id[at + 1 :]
    elif kind == "strange":
        job_id = data.draw(st.sampled_from(STRANGE_IDS) | st.text(max_size=60))
    part = data.draw(st.sampled_from(PARTS))
    return f"/offload/jobs/{quote(job_id, safe='')}{part}", part


def check(response: TestResponse, method: str, part: str, described: dict[str, Any]) -> None:
    """Check that the response is documented, well-formed, and contains nothing private."""
    # a stored response may be of any bytes
    status, text = response.status_code, response.get_data().decode(errors="replace")
    where = described["paths"].get(f"/jobs/{{job_id}}{part}", {})
    operation = where.get("get" if method == "HEAD" else method.lower())
    documented = {"404", "405", *(operation["responses"] if operation else ())}
    documented |= {"204"} if method == "OPTIONS" else set()
    if part == "view":
        assert status < 500, text
    elif status not in (302, 308):  # Flask's own, of other addresses
        # what a stored response of the app itself said is its own affair
        assert str(status) in documented or "default" in documented, (status, text)
    assert "Traceback (most recent call last)" not in text
    assert MARK not in text
    assert "secret sauce" not in text
    assert not any(name.lower().startswith("access-control") for name, _ in response.headers)
    if (response.mimetype or "").endswith("json") and method != "HEAD" and text:
        found = json.loads(text)
        if response.mimetype == "application/problem+json":
            assert found["status"] == status


def test_whatever_is_asked_the_answer_is_documented(site: WebSite, ids: list[str]) -> None:
    client = site.app.test_client()
    described = client.get("/offload/openapi.json").get_json()

    @settings(max_examples=EXAMPLES * 4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        method = data.draw(st.sampled_from(METHODS))
        path, part = path_of(site, ids, data)
        if path.startswith("/gated/") and method == "HEAD":  # runs here and now, and waits
            method = "GET"
        headers = data.draw(st.dictionaries(header, value, max_size=4))
        if part == "view":  # else it runs here and now
            headers["Prefer"] = data.draw(st.sampled_from(["respond-async", ASYNC_AND_MORE]))
        query = data.draw(st.dictionaries(st.sampled_from(["status", "a", "_method"]), texts))
        response = client.open(
            path, method=method, headers=headers, query_string=query, data=data.draw(body)
        )
        check(response, method, part, described)
        response.close()

    ask()


# --- methods that must not change anything -----------------------------------------------------


def contents(site: WebSite) -> dict[str, list[Any]]:
    """Every row of every table."""
    connection = apsw.Connection(str(site.engine.database.path))
    try:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            str(name): connection.execute(f"SELECT * FROM {name}").fetchall()
            for (name,) in tables.fetchall()
        }
    finally:
        connection.close()


def test_looking_changes_nothing(site: WebSite, ids: list[str]) -> None:
    """Request all our addresses and the app's, for all jobs, by all safe methods."""
    client = site.app.test_client()
    before = contents(site)
    rules = [
        rule
        for rule in site.app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and rule.endpoint not in ("gated", "furnished")
    ]
    visits = 0
    for rule in rules:
        names = dict.fromkeys(rule.arguments, "x")
        for job_id in ids if "job_id" in rule.arguments else ["x"]:
            values = {**names, **({"job_id": job_id} if "job_id" in names else {})}
            with site.app.test_request_context():
                built = site.app.url_map.bind("localhost").build(rule.endpoint, values, "GET")
            for method in SAFE:
                for accept in ("text/html", "application/json"):
                    client.open(
                        built,
                        method=method,
                        headers={"Accept": accept, "X-HTTP-Method-Override": "DELETE"},
                        query_string={"_method": "DELETE"},
                    ).close()
                    visits += 1
    assert visits > 300
    assert contents(site) == before


# --- requests for the page of another site -----------------------------------------------------

FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize("part", ["cancel", "retry"])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize(("headers", "status"), [(FOREIGN, 403), (OWN, 303), ({}, 303)])
def test_a_button_on_a_foreign_page_does_nothing(
    site: WebSite, part: str, accept: str, headers: dict[str, str], status: int
) -> None:
    client = site.app.test_client()
    with site.app.app_context():
        job = steps.using(run_after=timedelta(hours=1)).enqueue(["x"])
        if part == "retry":
            job.cancel()
    before = site.job(job.id).status
    url = f"/offload/jobs/{job.id}/{part}"
    response = client.post(url, headers={"Accept": accept, **headers})
    assert response.status_code == status
    assert (site.job(job.id).status is before) is (status == 403)


def test_no_browser_may_delete_across_sites(site: WebSite, ids: list[str]) -> None:
    """The browser sends a preflight, which never allows the request."""
    ask = {**FOREIGN, "Access-Control-Request-Method": "DELETE"}
    answer = site.app.test_client().options(f"/offload/jobs/{ids[-1]}", headers=ask)
    assert answer.status_code == 204
    assert not any(name.lower().startswith("access-control") for name, _ in answer.headers)


def test_with_csrf_protection_every_change_needs_the_token(tmp_path: Path) -> None:
    guarded = make_web_site(tmp_path, WTF_CSRF_CHECK_DEFAULT=True)
    with guarded.app.app_context():
        job = steps.using(run_after=timedelta(hours=1)).enqueue(["x"])
    client = guarded.app.test_client()
    url = f"/offload/jobs/{job.id}"
    for method, path in (("POST", f"{url}/cancel"), ("POST", f"{url}/retry"), ("DELETE", url)):
        assert client.open(path, method=method, headers=OWN).status_code == 400
    assert client.get(url).get_json()["status"] == "READY"
    guarded.engine.close()


# --- guessing ----------------------------------------------------------------------------------


def test_an_id_that_is_nearly_right_is_as_wrong_as_any(site: WebSite, ids: list[str]) -> None:
    """The same response for all, so that no guess can be judged."""
    client = site.app.test_client()
    good = ids[-1]
    count = 50_000 if EXAMPLES > 100 else 500
    guesses = [secrets.token_hex(len(good) // 2) for _ in range(count)]
    guesses += [good[:12] + secrets.token_hex(16) for _ in range(count)]
    guesses += [
        good[:at] + "0123456789abcdef"[int(c, 16) - 1] + good[at + 1 :] for at, c in enumerate(good)
    ]
    guesses += [good.upper(), f" {good}", f"{good} ", good[:-1], f"0{good}", f"{good}0", good[12:]]
    answers = set()
    for guess in guesses:
        if guess == good:
            continue
        response = client.get(f"/offload/jobs/{quote(guess)}")
        problem = response.get_json()
        answers.add((response.status_code, problem["title"], problem["detail"]))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 404
    assert client.get(f"/offload/jobs/{good}").status_code == 200


# --- floods ------------------------------------------------------------------------------------

MEGABYTES = 100


@pytest.mark.processes
def test_a_hundred_megabytes_are_refused_unread(site: WebSite, ids: list[str]) -> None:
    with site.gunicorn("--workers", "1") as origin:
        port = int(origin.rpartition(":")[2])
        (server,) = _servers(port)
        before = _peak(server)
        for path in (f"/offload/jobs/{ids[-2]}/retry", "/slow-form"):
            status = _flood(port, path)
            assert status in (0, 303, 409, 413), path  # 0: it closed the connection in our face
        assert listening(port)
        assert http_get(f"{origin}/").status == 200
        grown = (_peak(server) - before) / 1024
    assert grown < MEGABYTES / 2, f"the server has grown by {grown:.0f} MB"


def _servers(port: int) -> list[int]:
    """The gunicorn worker behind this port."""
    found = [pid for pid in descendants(os.getpid()) if f"127.0.0.1:{port}" in _command(pid)]
    return [pid for pid in found if not [child for child in descendants(pid) if child in found]]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _peak(pid: int) -> int:
    """The most memory that the process ever had, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def _flood(port: int, path: str) -> int:
    """Send a body without end, as far as it is taken; the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        size = MEGABYTES * 1024 * 1024
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n"
            "Content-Type: application/json\r\nConnection: close\r\n\r\n".encode()
        )
        try:
            for _ in range(MEGABYTES):
                connection.sendall(b"[" * 1024 * 1024)
        except OSError:
            pass  # the server has closed the connection, perhaps after a response
        try:
            line = connection.makefile("rb").readline().split()
        except OSError:
            line = []
    return int(line[1]) if line else 0


# --- files -------------------------------------------------------------------------------------


@pytest.mark.processes
def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """Under the most permissive umask, for all processes that create files."""
    before = os.umask(0)
    try:
        site = make_web_site(tmp_path / "instance")
        (tmp_path / "instance").mkdir()
        client = site.app.test_client()
        upload = (io.BytesIO(b"private"), "upload.txt")
        prefer = {"Prefer": "respond-async"}
        moved = client.post("/echo/file", data={"upload": upload}, headers=prefer)
        assert moved.status_code == 202, moved.text
        with site.worker():
            kept = [path for path in (tmp_path / "instance").rglob("*") if path.exists()]
            loose = {
                path.name: oct(path.stat().st_mode)
                for path in kept
                if stat.S_IMODE(path.stat().st_mode) & 0o077
            }
        site.engine.close()
    finally:
        os.umask(before)
    names = " ".join(str(path) for path in kept)
    for part in ("jobs.sqlite3", "jobs.sqlite3-wal", "jobs.sqlite3-shm", ".lock", "-files"):
        assert part in names
    assert loose == {}
