"""`flask offload measure` against real servers, and the limits for CI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from flask_offload.cli.measure import measure_command
from flask_offload.measure.ci import write_junit
from flask_offload.measure.limits import BadLimit, check_limits, parse_limit
from flask_offload.measure.probe import OutOfBounds
from flask_offload.measure.runner import Options, labels_of, measure
from flask_offload.measure.samples import Answer, Filmstrip, Measurement, PageLoad, PaintCost
from flask_offload.measure.target import Target
from measure_samples import SETUP, before_and_after, film, variant, write_photo
from measure_support import gunicorn, require_chromium, werkzeug_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with werkzeug_server() as origin:
        yield origin


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(measure_command, [str(argument) for argument in arguments])


def quickly(*arguments: str | Path) -> Result:
    return run(*arguments, "--no-browser", "--probes", "2")


# --- over HTTP ---------------------------------------------------------------------------------


def test_two_pages_are_compared_without_an_app_and_a_browser(server: str) -> None:
    done = quickly(f"{server}/sync", f"{server}/background")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("/background answers after ")
    assert "no browser (not wanted)" in done.stdout
    assert "… HTTP" in done.stderr


def test_json_is_one_document_on_stdout(server: str) -> None:
    done = quickly(f"{server}/text", "--bystander", f"{server}/", "--seconds", "0.5", "--json")
    document = json.loads(done.stdout)
    (variant,) = document["variants"]
    assert variant["label"] == "/text"
    assert variant["figures"]["bystander"]["n"] == 2
    assert len(document["samples"]["variants"][0]["idle"]["answers"]) == 2


def test_a_bystander_is_asked_at_each_server_under_load(server: str) -> None:
    with werkzeug_server() as other:
        urls = f"{server}/text", f"{other}/text"
        done = quickly(*urls, "--bystander", "/", "--seconds", "0.3", "--json")
        variants = json.loads(done.stdout)["samples"]["variants"]
        for variant, origin in zip(variants, (server, other), strict=True):
            assert variant["bystander"]["url"] == f"{origin}/" == variant["idle"]["url"]
        refused = quickly(*urls, "--bystander", f"{server}/")
        assert refused.exit_code == 1
        assert f"is not on the server of {other}/text" in refused.stderr
        assert "HTTP" not in refused.stderr  # before anything is measured


def test_a_form_with_a_file_and_a_token_is_posted(server: str, tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "me.png")
    url = f"{server}/form"
    fields = ("--form", "user=ann", "--form", f"photo=@{photo}")
    done = quickly(url, "--start", url, *fields, "--json")
    (variant,) = json.loads(done.stdout)["variants"]
    assert (variant["label"], variant["method"]) == ("POST /form", "POST")
    answers = json.loads(done.stdout)["samples"]["variants"][0]["probe"]["answers"]
    assert {answer["status"] for answer in answers} == {303}


def test_headers_are_sent_and_not_kept(server: str, tmp_path: Path) -> None:
    saved = tmp_path / "m.json"
    headers = ("--header", "X-Test: yes", "--header", "Cookie: session_id=s3cret")
    done = quickly(f"{server}/whoami", *headers, "--save", saved, "--json")
    assert Measurement.load(saved).variants[0].probe.failed == 0
    assert "s3cret" not in saved.read_text() + done.output


def test_a_foreign_host_is_refused_before_any_request() -> None:
    done = quickly("http://example.org/")
    assert done.exit_code == 1
    assert "--allow-host example.org" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sync"], "not the URL"),
        (["/a", "--form", "user=x", "--method", "GET"], "--form needs POST"),
        (["/a", "/b", "--label", "one"], "2 different labels"),
        (["/a", "--fail-above", "/b:ttfb=1s"], "nothing here is called '/b'"),
        (["/a", "--form", "user"], "not a form field"),
        (["/a", "--header", "nothing"], "not a header"),
        (["/a", "--fail-above", "paint=3ms"], "fail by chance"),
        (["/a", "--runs", "1000"], "at most 50"),
        (["/a", "--watch", "-1"], "seconds of watching"),
        (["/a", "--html", "/nowhere/at/all.html"], "no folder /nowhere/at"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], words: str) -> None:
    done = run(*arguments, "--no-browser")
    assert done.exit_code != 0
    assert words in " ".join(done.stderr.split())


def test_runs_are_bounded_from_python_too() -> None:
    with pytest.raises(OutOfBounds):
        measure(["/a"], Options(runs=0))


def test_labels_tell_pages_apart() -> None:
    def labels(*urls: str, method: str = "GET") -> tuple[str, ...]:
        return labels_of(urls, Options(method=method))

    assert labels("/a", "/b?x=1") == ("/a", "/b?x=1")
    assert labels("http://127.0.0.1:1/a", "http://127.0.0.1:2/a") == (
        "127.0.0.1:1/a",
        "127.0.0.1:2/a",
    )
    assert labels("/a", "/a") == ("/a", "/a (2)")
    assert labels("/a", method="POST") == ("POST /a",)


# --- limits ------------------------------------------------------------------------------------


def test_a_limit_fails_the_slow_page_and_passes_the_quick_one(server: str) -> None:
    limit = ("--fail-above", "ttfb=300ms")
    slow, quick = (quickly(f"{server}/{page}", *limit) for page in ("sync", "background"))
    assert (slow.exit_code, quick.exit_code) == (1, 0)
    assert "✗ failed: /sync: ttfb up to 300 ms: measured 6" in slow.stderr
    assert "✓ passed" in quick.stderr


def test_limits_are_read_in_both_units() -> None:
    assert parse_limit("ttfb=800ms") == parse_limit(" ttfb = 0.8s ")
    assert parse_limit("reflows=10").most == 10
    labelled = parse_limit("POST /a:b:cls=0.1")
    assert (labelled.label, labelled.figure.key) == ("POST /a:b", "cls")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttfb", "write FIGURE=VALUE"),
        ("ttfb=800", "write ttfb=800ms"),
        ("reflows=3ms", "bare number"),
        ("speed=3ms", "use one of"),
        ("ttfb=-1ms", "write FIGURE=VALUE"),
    ],
)
def test_a_limit_that_means_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadLimit, match=words):
        parse_limit(text)


def test_a_limit_is_for_all_or_for_one() -> None:
    measured = before_and_after()
    everywhere = check_limits([parse_limit("ttfb=800ms")], measured)
    assert [check.passed for check in everywhere] == [False, True]
    one = check_limits([parse_limit("/background:ttfb=800ms")], measured)
    assert [(check.variant, check.passed) for check in one] == [("/background", True)]


def test_the_limit_itself_is_allowed() -> None:
    measured = before_and_after()
    at = check_limits([parse_limit("/sync:ttfb=1506ms")], measured)
    below = check_limits([parse_limit("/sync:ttfb=1505.9ms")], measured)
    assert [check.passed for check in at + below] == [True, False]


def test_what_was_not_measured_fails() -> None:
    measured = before_and_after()
    bare = tuple(replace(variant, loads=()) for variant in measured.variants)
    (check, _) = check_limits([parse_limit("lcp=9s")], replace(measured, variants=bare))
    assert not check.passed
    assert "was not measured" in check.sentence


def test_a_good_request_that_leads_to_an_error_page_passes_no_limit() -> None:
    """As when a form is accepted, and the page after it fails."""
    lost = Measurement(SETUP, (variant("POST /form", 2, 4, status=500),))
    (check,) = check_limits([parse_limit("ttfb=9s")], lost)
    assert not check.passed
    assert "5 of 5 page loads failed" in check.sentence


def test_a_bystander_page_that_fails_passes_no_limit_of_its_own() -> None:
    page = variant("/page", 2, 4)
    assert page.bystander is not None
    refused = replace(page.bystander, answers=(Answer(0, 1, 1, 500), Answer(0, 1, 1, 200)))
    limits = [parse_limit("bystander=9s"), parse_limit("ttfb=9s")]
    checks = check_limits(limits, Measurement(SETUP, (replace(page, bystander=refused),)))
    assert [check.passed for check in checks] == [False, True]
    assert "1 of 2 bystander requests failed" in checks[0].sentence


def test_an_error_page_passes_no_limit(server: str) -> None:
    done = quickly(f"{server}/broken", "--fail-above", "ttfb=9s")
    assert done.exit_code == 1
    assert "2 of 2 requests failed" in done.stderr


def test_junit_lists_every_check(tmp_path: Path) -> None:
    checks = check_limits([parse_limit("ttfb=800ms")], before_and_after())
    write_junit(checks, tmp_path / "junit.xml")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["/sync: ttfb up to 800 ms"]


# --- with the browser --------------------------------------------------------------------------


class Recorder:
    """Stands for the browser; notes in which order it is asked for what."""

    name = "a recorder"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def _note(self, what: str, target: Target) -> None:
        self.asked.append(f"{what} {urlsplit(target.url).path}")

    def load(self, target: Target) -> PageLoad:
        self._note("load", target)
        return PageLoad(target.url, status=200)

    def paint(self, target: Target) -> PaintCost:
        self._note("paint", target)
        return PaintCost(1, 1.0, 1.0, 1)

    def film(self, target: Target) -> Filmstrip:
        self._note("film", target)
        return film(2, 50)


def test_timed_loads_come_first_and_traces_and_films_are_loads_of_their_own(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turns, as far as it matters, so that a busy moment hits both pages alike."""
    recorder = Recorder()
    monkeypatch.setattr("flask_offload.measure.runner.Browser", lambda **_: recorder)
    options = Options(runs=2, traced=2, probes=1, browser=True)
    measured = measure([f"{server}/text", f"{server}/"], options)
    loads = ["load /text", "load /"] * 3  # one round is thrown away
    paints = ["paint /text", "paint /"] * 2
    assert recorder.asked == [*loads, *paints, "film /text", "film /"]
    for each in measured.variants:
        assert (len(each.loads), len(each.paints), each.film is None) == (2, 2, False)


@pytest.mark.processes
def test_everything_ends_up_in_the_report(tmp_path: Path) -> None:
    """Also the late result: it is seen only when the page is watched long enough."""
    require_chromium()
    html, saved = tmp_path / "report.html", tmp_path / "samples.json"
    with gunicorn(workers=1) as origin:
        done = run(
            *(f"{origin}/background", f"{origin}/late"),
            *("--browser", "--runs", "1", "--probes", "2", "--watch", "1"),
            *("--label", "plain", "--label", "late result"),
            *("--html", html, "--save", saved),
        )
    assert done.exit_code == 0, done.output
    plain, late = Measurement.load(saved).variants
    assert (plain.label, late.label) == ("plain", "late result")
    assert late.loads[0].lcp_element == "html>body>p"
    assert (late.loads[0].lcp_ms or 0) > 700 > (late.loads[0].fcp_ms or 0)
    assert plain.paints
    assert plain.film is not None
    page = html.read_text("utf-8")
    assert "late result" in page
    assert "data:image/jpeg;base64," in page
    assert len(page.encode()) < 300_000
    assert "appeared" in done.stdout  # the caveat is named in the terminal too
