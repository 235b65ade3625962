"""The guard: no other web page may drive an app on this machine."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_offload_lab.origin_check import Guard

OURS = "http://127.0.0.1:5080"
CLUB = "http://127.0.0.1:5081"
Headers = dict[str, str]


def client(guard: Guard) -> FlaskClient:
    app = Flask(__name__)

    @app.route("/", methods=["GET", "POST"])
    def view() -> str:
        return "done"

    guard.watch(app)
    return app.test_client()


@pytest.fixture
def lab() -> FlaskClient:
    return client(Guard(OURS, frames=[CLUB], links=True))


@pytest.fixture
def club() -> FlaskClient:
    return client(Guard(CLUB, friends=[OURS]))


def get(app: FlaskClient, origin: str, **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.get("/", base_url=origin, headers=sent).status_code


def post(app: FlaskClient, origin: str, **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.post("/", base_url=origin, headers=sent).status_code


@pytest.mark.parametrize(
    "host",
    [
        "http://evil.example",
        "http://evil.example:5080",
        "http://127.0.0.1:5082",
        "http://127.0.0.1",
    ],
)
def test_answers_under_its_own_name_only(lab: FlaskClient, host: str) -> None:
    """DNS rebinding: evil.example may point to 127.0.0.1, but the browser still says its name."""
    assert get(lab, host) == 403
    assert post(lab, host, Origin=host) == 403


def test_leads_localhost_to_its_own_name(lab: FlaskClient) -> None:
    answer = lab.get("/?a=1", base_url="http://localhost:5080")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{OURS}/?a=1")
    assert post(lab, "http://localhost:5080", Origin="http://localhost:5080") == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": OURS}, 200),
        ({"Origin": OURS, "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": CLUB, "Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 403),
        ({}, 403),
    ],
)
def test_changes_something_for_its_own_pages_only(
    lab: FlaskClient, headers: Headers, status: int
) -> None:
    assert post(lab, OURS, **headers) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "same-site", "Referer": f"{OURS}/"}, 200),
        ({"Sec_Fetch_Site": "same-site", "Referer": "http://127.0.0.1:9999/"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "image"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}, 403),
    ],
)
def test_the_club_works_for_nobody_elses_page(
    club: FlaskClient, headers: Headers, status: int
) -> None:
    """Its GETs send mail, so not even an image of another site may point there."""
    assert get(club, CLUB, **headers) == status


def test_the_world_may_link_to_the_lab(lab: FlaskClient) -> None:
    assert get(lab, OURS, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document") == 200
    assert get(lab, OURS, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="iframe") == 403


def test_pages_run_no_foreign_code_and_sit_in_no_foreign_frame(
    lab: FlaskClient, club: FlaskClient
) -> None:
    def policy(app: FlaskClient, origin: str) -> dict[str, str]:
        text = app.get("/", base_url=origin).headers["Content-Security-Policy"]
        return dict(part.split(" ", 1) for part in text.split("; "))

    ours, theirs = policy(lab, OURS), policy(club, CLUB)
    assert ours["default-src"] == theirs["default-src"] == "'none'"
    assert ours["script-src"] == theirs["script-src"] == "'self'"
    assert ours["style-src"] == "'self'"
    assert (ours["frame-src"], ours["frame-ancestors"]) == (CLUB, "'none'")
    assert (theirs["frame-src"], theirs["frame-ancestors"]) == ("'none'", OURS)


def test_a_refusal_has_the_headers_too(lab: FlaskClient) -> None:
    answer = lab.get("/", base_url="http://evil.example")
    assert answer.status_code == 403
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_keeps_stricter_headers_of_a_view() -> None:
    app = Flask(__name__)

    @app.get("/")
    def view() -> tuple[str, dict[str, str]]:
        return "done", {"Referrer-Policy": "no-referrer"}

    Guard(OURS).watch(app)
    answer = app.test_client().get("/", base_url=OURS)
    assert answer.headers["Referrer-Policy"] == "no-referrer"
