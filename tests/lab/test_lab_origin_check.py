"""The origin check: no other web page may drive an app on this machine."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_offload_lab.origin_check import OriginCheck

LAB = "http://127.0.0.1:5080"
SAMPLE_APP = "http://127.0.0.1:5081"
Headers = dict[str, str]


def client(check: OriginCheck) -> FlaskClient:
    app = Flask(__name__)

    @app.route("/", methods=["GET", "POST"])
    def view() -> str:
        return "done"

    check.install(app)
    return app.test_client()


@pytest.fixture
def lab() -> FlaskClient:
    return client(OriginCheck(LAB, frames=[SAMPLE_APP], links=True))


@pytest.fixture
def sample_app() -> FlaskClient:
    return client(OriginCheck(SAMPLE_APP, allowed=[LAB]))


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
    """DNS rebinding: evil.example may point to 127.0.0.1, but the browser still sends its name."""
    assert get(lab, host) == 403
    assert post(lab, host, Origin=host) == 403


def test_redirects_localhost_to_its_own_name(lab: FlaskClient) -> None:
    answer = lab.get("/?a=1", base_url="http://localhost:5080")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{LAB}/?a=1")
    assert post(lab, "http://localhost:5080", Origin="http://localhost:5080") == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": LAB}, 200),
        ({"Origin": LAB, "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": SAMPLE_APP, "Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 403),
        ({}, 403),
    ],
)
def test_changes_something_for_its_own_pages_only(
    lab: FlaskClient, headers: Headers, status: int
) -> None:
    assert post(lab, LAB, **headers) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "same-site", "Referer": f"{LAB}/"}, 200),
        ({"Sec_Fetch_Site": "same-site", "Referer": "http://127.0.0.1:9999/"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "image"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"}, 403),
    ],
)
def test_the_sample_app_serves_no_page_of_another_site(
    sample_app: FlaskClient, headers: Headers, status: int
) -> None:
    """Its GETs send mail, so not even an image of another site may point there."""
    assert get(sample_app, SAMPLE_APP, **headers) == status


def test_any_site_may_link_to_the_lab(lab: FlaskClient) -> None:
    assert get(lab, LAB, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document") == 200
    assert get(lab, LAB, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="iframe") == 403


def test_pages_run_no_foreign_code_and_sit_in_no_foreign_frame(
    lab: FlaskClient, sample_app: FlaskClient
) -> None:
    def policy(app: FlaskClient, origin: str) -> dict[str, str]:
        text = app.get("/", base_url=origin).headers["Content-Security-Policy"]
        return dict(part.split(" ", 1) for part in text.split("; "))

    of_lab, of_sample_app = policy(lab, LAB), policy(sample_app, SAMPLE_APP)
    assert of_lab["default-src"] == of_sample_app["default-src"] == "'none'"
    assert of_lab["script-src"] == of_sample_app["script-src"] == "'self'"
    assert of_lab["style-src"] == "'self'"
    assert (of_lab["frame-src"], of_lab["frame-ancestors"]) == (SAMPLE_APP, "'none'")
    assert (of_sample_app["frame-src"], of_sample_app["frame-ancestors"]) == ("'none'", LAB)


def test_a_refusal_has_the_headers_too(lab: FlaskClient) -> None:
    answer = lab.get("/", base_url="http://evil.example")
    assert answer.status_code == 403
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_keeps_stricter_headers_of_a_view() -> None:
    app = Flask(__name__)

    @app.get("/")
    def view() -> tuple[str, dict[str, str]]:
        return "done", {"Referrer-Policy": "no-referrer"}

    OriginCheck(LAB).install(app)
    answer = app.test_client().get("/", base_url=LAB)
    assert answer.headers["Referrer-Policy"] == "no-referrer"
