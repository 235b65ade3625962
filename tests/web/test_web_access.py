"""Who may see a job, how often, and that a repeated request is one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from flask_offload import Job
from flask_offload.web.idempotency import MAX_KEY
from web_app import narrow_to_user, offload
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite, client_of, location, make_web_site, poll_until

HTML = {"Accept": "text/html"}


@pytest.fixture
def narrowed() -> Iterator[Callable[[Job], bool]]:
    yield offload.authorize(narrow_to_user)
    offload.authorizer = None


def request_headers(user: str = "", key: str = "") -> dict[str, str]:
    given = {"Prefer": "respond-async", "X-User": user, "Idempotency-Key": key}
    return {name: value for name, value in given.items() if value}


# --- owners ------------------------------------------------------------------------------------


@pytest.mark.processes
def test_without_authorize_the_id_is_enough(client: FlaskClient, site: WebSite) -> None:
    url = location(client.post("/mine/o1", headers=request_headers("ann")))
    assert client.get(f"{url}?status").status_code == 200
    assert site.job(url.rpartition("/")[2]).owner == "ann"


@pytest.mark.usefixtures("narrowed")
def test_a_job_of_another_owner_is_as_if_it_did_not_exist(client: FlaskClient) -> None:
    url = location(client.post("/mine/o2", headers=request_headers("ann")))
    unknown = client.get("/offload/jobs/" + "0" * 44, headers={"X-User": "bob"}).get_json()
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/result"),
        ("POST", "/result"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ]:
        refused = client.open(url + path, method=method, headers={"X-User": "bob"})
        assert refused.status_code == 404
        assert {**refused.get_json(), "instance": ""} == {**unknown, "instance": ""}
    seen = client.get(f"{url}?status", headers={"X-User": "ann"})
    assert (seen.status_code, seen.get_json()["cancel_requested"]) == (200, False)


def test_the_owner_reaches_the_view(client: FlaskClient, site: WebSite) -> None:
    url = location(client.post("/mine/o3", headers=request_headers("ann")))
    poll_until(client, url, "SUCCESSFUL")
    assert client.get(f"{url}/result").text == "ann"


# --- how often ---------------------------------------------------------------------------------


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[FlaskClient]:
    with client_of(make_web_site(tmp_path, OFFLOAD_POLL_LIMIT=2)) as client:
        yield client


def hammer(client: FlaskClient, url: str, times: int = 40, **options: Any) -> list[Any]:
    return [client.get(url, **options) for _ in range(times)]


def test_a_client_that_polls_too_often_gets_429(limited: FlaskClient) -> None:
    url = location(limited.post("/steps/p1"))
    answers = hammer(limited, url)
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.mimetype == "application/problem+json"
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.get_json()["status"] == 429


def test_one_client_does_not_use_up_anothers_polls(limited: FlaskClient) -> None:
    url, other = (location(limited.post("/steps/p2")) for _ in range(2))
    hammer(limited, url)
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert limited.get(url).status_code == 429
    assert limited.get(url, environ_base=elsewhere).status_code == 200
    assert limited.get(other).status_code == 200  # behind a proxy all have one address


def test_guessing_ids_is_limited_too(limited: FlaskClient) -> None:
    statuses = {limited.get(f"/offload/jobs/{number:044x}").status_code for number in range(40)}
    assert statuses == {404, 429}


def test_a_hasty_browser_gets_a_page_that_comes_back(limited: FlaskClient) -> None:
    url = location(limited.post("/steps/p3"))
    refused = hammer(limited, url, headers=HTML)[-1]
    assert (refused.status_code, refused.mimetype) == (429, "text/html")
    assert int(refused.headers["Refresh"]) >= 1


# --- Idempotency-Key ---------------------------------------------------------------------------


def post(client: FlaskClient, key: str, path: str = "/echo/x", user: str = "", **form: str) -> Any:
    return client.post(path, data=form, headers=request_headers(user, key))


def test_a_repeated_request_is_the_same_job(client: FlaskClient, site: WebSite) -> None:
    first = location(post(client, "k1", "/gated/k0", a="1"))
    assert location(post(client, "k1", "/gated/k0", a="1")) == first
    assert location(post(client, "k2", "/gated/k0", a="1")) != first
    assert location(post(client, "", "/gated/k0", a="1")) != first
    site.open("k0")
    poll_until(client, first, "SUCCESSFUL")
    again = post(client, "k1", "/gated/k0", a="1")
    assert (again.status_code, again.text) == (200, "passed k0")  # it is done: here is the result


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/echo/x", {"a": "2"}),
        ("/echo/x", {}),
        ("/echo/y", {"a": "1"}),
        ("/echo/x?q=1", {"a": "1"}),
    ],
)
def test_the_same_key_with_another_request_is_refused(
    client: FlaskClient, path: str, form: dict[str, str]
) -> None:
    key = f"other {path} {form}"
    post(client, key, a="1")
    response = post(client, key, path, **form)
    assert (response.status_code, response.mimetype) == (422, "application/problem+json")
    assert "Idempotency-Key" in response.get_json()["detail"]


def test_files_are_part_of_the_request(client: FlaskClient, tmp_path: Path) -> None:
    def upload(content: bytes) -> Any:
        (tmp_path / "a.txt").write_bytes(content)
        with (tmp_path / "a.txt").open("rb") as file:
            return client.post(
                "/echo/x", data={"file": (file, "a.txt")}, headers=request_headers(key="files")
            )

    first = location(upload(b"one"))
    assert upload(b"two").status_code == 422
    poll_until(client, first, "SUCCESSFUL")
    assert upload(b"one").get_json()["files"]["file"][2] == "one"


def test_keys_belong_to_a_view_and_to_who_asks(client: FlaskClient, site: WebSite) -> None:
    site.open("k")
    ann, bob = (location(post(client, "k3", "/mine/k", user)) for user in ("ann", "bob"))
    assert ann != bob
    assert location(post(client, "k3", "/gated/k")) not in (ann, bob)
    headers = request_headers(key="k4")
    one, two = (
        location(client.post("/echo/x", headers={**headers, "Authorization": f"Bearer {token}"}))
        for token in ("a", "b")
    )
    assert one != two


def test_a_form_can_bring_its_key_in_a_field(client: FlaskClient, site: WebSite) -> None:
    """A fresh CSRF token makes no other request of it."""
    first, again = (
        location(post(client, "", "/gated/f", idempotency_key="f1", csrf_token=token))
        for token in ("x", "y")
    )
    site.open("f")
    assert again == first


def test_a_monstrous_key_is_refused(client: FlaskClient) -> None:
    response = post(client, "x" * (MAX_KEY + 1))
    assert (response.status_code, response.mimetype) == (400, "application/problem+json")


def test_ids_stay_unguessable(client: FlaskClient) -> None:
    """Of two jobs for the same request, made with different keys, only the digest is the same."""
    one, two = (location(post(client, key, a="1"))[-44:] for key in ("u1", "u2"))
    assert one[-8:] == two[-8:]
    assert one[12:36] != two[12:36]
    assert len(one) == len(two) == 44
