"""The probe against real servers."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flask_offload.measure.form import Upload
from flask_offload.measure.probe import (
    NoAnswer,
    OutOfBounds,
    probe,
    probe_bystander,
    probe_interleaved,
)
from flask_offload.measure.target import HostNotAllowed, Target
from measure_support import gunicorn, serving, werkzeug_server

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with gunicorn(workers=2) as origin:
        yield origin


def known(value: float | None) -> float:
    assert value is not None
    return value


def test_the_slow_page_is_slow_and_the_app_says_so(server: str) -> None:
    result = probe(f"{server}/sync", n=3)
    assert len(result.answers) == 3
    assert known(result.ttfb_p50_ms) >= 600
    assert known(result.p50_ms) >= known(result.ttfb_p50_ms)
    assert known(result.server_p50_ms) == pytest.approx(known(result.ttfb_p50_ms), rel=0.2)
    assert result.failed == 0


def test_the_background_page_is_many_times_quicker(server: str) -> None:
    slow, quick = probe_interleaved([Target(f"{server}/sync"), Target(f"{server}/background")], n=4)
    assert known(slow.p50_ms) > 5 * known(quick.p50_ms)


def test_targets_take_turns(server: str) -> None:
    one, other = probe_interleaved([Target(f"{server}/text"), Target(f"{server}/")], n=3)
    order = sorted([*one.answers, *other.answers], key=lambda answer: answer.at_s)
    assert [answer in one.answers for answer in order] == [True, False] * 3


def test_the_first_request_is_not_counted() -> None:
    """It pays for imports and caches; here it even fails."""
    asked: list[str] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        start_response("200 OK" if len(asked) > 1 else "503 Starting", [("Content-Length", "0")])
        return [b""]

    with serving(application) as origin:
        result = probe(f"{origin}/", n=3)
    assert len(asked) == 4
    assert len(result.answers) == 3
    assert result.failures == {}


def test_an_early_flush_has_a_good_ttfb_and_a_slow_response() -> None:
    with werkzeug_server() as origin:
        result = probe(f"{origin}/stream", n=2)
    assert known(result.p50_ms) > known(result.ttfb_p50_ms) + 500


def test_a_redirect_is_measured_not_followed(server: str) -> None:
    result = probe(f"{server}/plain-form", n=2, method="POST", data={"user": "ann"})
    assert {answer.status for answer in result.answers} == {303}
    assert known(result.ttfb_p50_ms) >= 600


def test_the_form_page_gives_token_and_cookie(server: str) -> None:
    url = f"{server}/form"
    photo = Upload("a.png", "image/png", b"\xff" * 100)
    with_page = Target(url, "POST", (("user", "ann"), ("photo", photo)), start=url)
    without = Target(url, "POST", (("user", "ann"),))
    good, bad = probe_interleaved([with_page, without], n=2)
    assert good.failures == {}
    assert bad.failures == {"status 400": 2}


def test_an_error_page_counts_as_failed(server: str) -> None:
    assert probe(f"{server}/broken", n=3).failures == {"status 500": 3}


def test_time_is_bounded(server: str) -> None:
    result = probe(f"{server}/sync", n=100, max_seconds=1)
    assert len(result.answers) == 2  # the second one began before the second was over


def test_a_page_that_never_ends_in_time_is_named(server: str) -> None:
    with pytest.raises(NoAnswer, match=r"/sync took longer than 0\.2 s"):
        probe_interleaved([Target(f"{server}/sync")], n=1, timeout=0.2)


def test_a_probe_that_times_out_counts_with_its_wait() -> None:
    """One worker and a long line: leaving out the last in it would flatter the server."""
    with gunicorn(workers=1, block_s=0.4) as origin:
        result = probe_bystander(f"{origin}/sync", None, seconds=1.0, interval=0.1, timeout=1.0)
    assert result.failures.keys() == {"timed out"}
    assert len(result.answers) == 10
    assert known(result.slowest_ms) >= 1000


@pytest.mark.parametrize(
    "ask",
    [
        lambda url: probe(url, n=0),
        lambda url: probe(url, n=100_000),
        lambda url: probe_bystander(url, url, clients=10_000),
        lambda url: probe_bystander(url, url, seconds=1e9),
        lambda url: probe_bystander(url, url, interval=1e-6),
    ],
)
def test_bounds_are_kept(server: str, ask: object) -> None:
    with pytest.raises(OutOfBounds, match="at most"):
        ask(f"{server}/")  # type: ignore[operator]


def test_a_host_that_was_not_named_gets_no_request() -> None:
    with pytest.raises(HostNotAllowed):
        probe("http://example.org/")
    with pytest.raises(HostNotAllowed):
        probe_bystander("http://127.0.0.1:1/", "http://example.org/")


def test_an_app_that_is_not_running_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/page"
        with pytest.raises(NoAnswer, match=r"/page .*flask run"):
            probe(url)


# --- the bystander's page -------------------------------------------------------------------------


def test_the_bystander_page_waits_behind_the_slow_one() -> None:
    """One worker: everybody stands in one line, and the app does not see it."""
    with gunicorn(workers=1, block_s=0.3) as origin:
        idle = probe_bystander(f"{origin}/", None, seconds=0.5)
        probes = {"clients": 3, "seconds": 1.0, "pace": 0.3}
        slow = probe_bystander(f"{origin}/", f"{origin}/sync", **probes)  # type: ignore[arg-type]
        quick = probe_bystander(f"{origin}/", f"{origin}/background", **probes)  # type: ignore[arg-type]
    assert known(slow.p50_ms) > 10 * known(quick.p50_ms)
    assert known(slow.p50_ms) > 300  # at least one job long
    assert known(slow.server_p50_ms) < 50 < known(slow.ttfb_p50_ms)
    assert (slow.clients, slow.slow_url) == (3, f"{origin}/sync")
    assert quick.slow_answers > slow.slow_answers > 0
    # a quick page gets the demand of a slow one: 3 clients, each every 0.3 s, and not all they can
    assert quick.slow_answers <= 3 * ((quick.seconds + 0.3) / 0.3 + 1)
    assert idle.slow_url is None


def test_probes_do_not_wait_for_each_other() -> None:
    """Open loop: as many probes as were planned, although each is answered late."""
    with gunicorn(workers=1, block_s=0.3) as origin:
        result = probe_bystander(f"{origin}/sync", None, seconds=0.8, interval=0.1)
    assert len(result.answers) == 8
    starts = [answer.at_s for answer in result.answers]
    assert starts == pytest.approx([index * 0.1 for index in range(8)], abs=0.001)
    waits = [known(answer.response_ms) for answer in result.answers]
    assert waits[-1] > 3 * waits[0]  # the line grows


def test_several_probes_are_under_way_at_once() -> None:
    """Each waits here for two others, so one that began only after the last would wait in vain."""
    together = threading.Barrier(3)
    asked: list[str] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        if len(asked) > 1:  # the first one is not counted, and alone
            together.wait(5)
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    with serving(application) as origin:
        result = probe_bystander(f"{origin}/", None, seconds=0.75, interval=0.25)
    assert (len(result.answers), result.failures) == (3, {})


def test_the_probe_needs_the_standard_library_only() -> None:
    """The lab and the demo use it where the extra is not installed."""
    code = (
        "import sys; sys.modules['playwright'] = None; import flask_offload.measure.probe, "
        "flask_offload.measure.runner, flask_offload.measure.browser"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
