"""Server-Timing, forms and addresses."""

from __future__ import annotations

from email.parser import BytesParser
from pathlib import Path

import pytest

from flask_offload.measure.form import BadField, Upload, encode, hidden_fields, parse_field
from flask_offload.measure.http_client import parse_server_timing, server_total
from flask_offload.measure.samples import ServerTiming
from flask_offload.measure.target import BadUrl, HostNotAllowed, check_host, full_url


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("total;dur=12.3", [ServerTiming("total", 12.3)]),
        ("a;dur=1, b;dur=2", [ServerTiming("a", 1.0), ServerTiming("b", 2.0)]),
        ('a;desc="x; y, z";dur=4', [ServerTiming("a", 4.0, "x; y, z")]),
        (r'a;desc="say \"hi\" \\";dur=4', [ServerTiming("a", 4.0, 'say "hi" \\')]),
        ("cache;desc=HIT", [ServerTiming("cache", 0.0, "HIT")]),
        ("a;dur=1;dur=2", [ServerTiming("a", 1.0)]),
        ("bad name;dur=3", [ServerTiming("bad", 3.0)]),
        ("a;dur=abc", [ServerTiming("a", 0.0)]),
        ("a;dur=-1", [ServerTiming("a", -1.0)]),
        (" a ; DUR = 3 ", [ServerTiming("a", 3.0)]),
        ('a;desc="never closed;dur=3', [ServerTiming("a", 3.0, "never closed")]),
        ("", []),
        (",,;dur=3", []),
    ],
)
def test_server_timing_is_read_as_browsers_do(header: str, expected: list[ServerTiming]) -> None:
    assert list(parse_server_timing([header])) == expected


def test_several_headers_add_up_and_total_is_the_app() -> None:
    timings = parse_server_timing(["db;dur=3", "total;dur=7"])
    assert [timing.name for timing in timings] == ["db", "total"]
    assert server_total(timings) == 7.0
    assert server_total(timings[:1]) is None


# --- forms -------------------------------------------------------------------------------------


def test_a_plain_form_is_urlencoded() -> None:
    body, content_type = encode((("name", "Zoë & co"), ("name", "b")))
    assert content_type == "application/x-www-form-urlencoded"
    assert body == b"name=Zo%C3%AB+%26+co&name=b"


def test_a_form_with_a_file_is_multipart() -> None:
    photo = Upload('a "b".png', "image/png", b"\x89PNG\r\n--x")
    body, content_type = encode((("user", "Zoë"), ("photo", photo)))
    message = BytesParser().parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    _, text, file = message.walk()
    assert text.get_payload(decode=True) == "Zoë".encode()
    assert file.get_payload(decode=True) == photo.content
    assert file.get_content_type() == "image/png"
    assert 'filename="a %22b%22.png"' in body.decode("latin-1")


def test_fields_are_read_as_curl_does(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"a,b")
    assert parse_field("user=a=b") == ("user", "a=b")
    assert parse_field("empty=") == ("empty", "")
    name, upload = parse_field(f"rows=@{tmp_path / 'list.csv'}")
    assert (name, upload) == ("rows", Upload("list.csv", "text/csv", b"a,b"))


@pytest.mark.parametrize("text", ["user", "=value", "photo=@/nowhere/at/all.png"])
def test_a_bad_field_says_why(text: str) -> None:
    with pytest.raises(BadField, match="form field"):
        parse_field(text)


def test_hidden_fields_are_those_of_the_form_that_posts_there() -> None:
    html = """
      <form action="/search"><input type="hidden" name="q" value="no"></form>
      <form method="POST" action="/other"><input type=hidden name=token value=wrong></form>
      <form method="POST" action="/sign-up">
        <input type="hidden" name="token" value="t&amp;1"><input name="user" value="typed"></form>
      <form method="post" action="/sign-up"><input type="hidden" name="token" value="2nd"></form>"""
    found = hidden_fields(html, "http://127.0.0.1:5000/start", "http://127.0.0.1:5000/sign-up")
    assert found == {"token": "t&1"}


def test_a_form_without_action_posts_to_its_own_page() -> None:
    html = '<form method="post"><input type="hidden" name="token" value="1"></form>'
    page = "http://127.0.0.1:5000/sign-up"
    assert hidden_fields(html, page, page) == {"token": "1"}


# --- addresses ---------------------------------------------------------------------------------


def test_a_path_means_the_app_that_flask_run_serves() -> None:
    assert full_url("/sync?x=1") == "http://127.0.0.1:5000/sync?x=1"
    assert full_url("https://example.org/a") == "https://example.org/a"


@pytest.mark.parametrize("text", ["sync", "ftp://127.0.0.1/", "http://", "http://a:99999/", ""])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(BadUrl, match="not the URL"):
        full_url(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_this_machine_is_allowed(host: str) -> None:
    check_host(f"http://{host}:5000/")


@pytest.mark.parametrize(
    "host", ["example.org", "10.0.0.1", "0.0.0.0", "localhost.example.org", "[2001:db8::1]"]
)
def test_other_hosts_need_to_be_named(host: str) -> None:
    url = f"http://{host}/"
    name = host.strip("[]")
    with pytest.raises(HostNotAllowed, match=r"--allow-host") as caught:
        check_host(url)
    assert caught.value.host == name
    check_host(url, [name])
