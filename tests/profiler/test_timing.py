"""Server-Timing: what goes into the header, who sees it, and what it may not break."""

from __future__ import annotations

import asyncio
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, g, request, stream_with_context
from hypothesis import given
from hypothesis import strategies as st

from flask_offload.profiler import request_sample
from flask_offload.profiler import timing as timing_module
from flask_offload.profiler.install import ProfilerSettings, install
from flask_offload.profiler.queue_time import queue_seconds
from flask_offload.profiler.timing import (
    MAX_ENTRIES,
    MAX_LENGTH,
    Metric,
    note_enqueue,
    server_timing,
    span,
)


def parse(header: str) -> dict[str, tuple[float | None, str]]:
    """Read a header as a browser does: name, duration in ms, description."""
    found: dict[str, tuple[float | None, str]] = {}
    rest = header
    while rest:
        name, quoted, text = "", False, ""
        for index, char in enumerate(rest):
            if char == '"' and rest[index - 1] != "\\":
                quoted = not quoted
            elif char == "," and not quoted:
                text, rest = rest[:index], rest[index + 1 :]
                break
        else:
            text, rest = rest, ""
        name, *fields = (part.strip() for part in _split(text))
        values = dict(part.split("=", 1) for part in fields)
        description = values.get("desc", '""')[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        found[name] = (float(values["dur"]) if "dur" in values else None, description)
    return found


def _split(text: str) -> Iterator[str]:
    part, quoted, escaped = "", False, False
    for char in text:
        if char == ";" and not quoted:
            yield part
            part = ""
            continue
        if char == '"' and not escaped:
            quoted = not quoted
        escaped = char == "\\" and not escaped
        part += char
    yield part


def app_with(settings: ProfilerSettings, view: Callable[[], Any] = lambda: "ok") -> Flask:
    app = Flask(__name__)
    app.add_url_rule("/", "index", view, methods=["GET", "POST"])
    install(app, settings)
    return app


def timings(app: Flask, **options: Any) -> dict[str, tuple[float | None, str]]:
    with app.test_client().get("/", **options) as answer:
        return parse(", ".join(answer.headers.getlist("Server-Timing")))


ON = ProfilerSettings(server_timing=True, spot=False)


# --- the text of the header --------------------------------------------------------------------


def test_a_metric_has_a_name_a_duration_and_a_description() -> None:
    header = server_timing([Metric("total", 0.0123)], [Metric("db", 0.004, 'a "b"; c, \\d')])
    assert header == 'total;dur=12.3, db;dur=4.0;desc="a \\"b\\"; c, \\\\d"'


def test_what_is_no_token_or_no_ascii_is_replaced() -> None:
    assert server_timing([Metric("bad näme", 0.003, "größe\r\nSet-Cookie: a=b")], []) == (
        'bad-n-me;dur=3.0;desc="gr??e??Set-Cookie: a=b"'
    )
    assert server_timing([Metric("", -1.0)], []) == "-;dur=0.0"


@given(
    st.lists(st.tuples(st.text(max_size=80), st.floats(0, 1e4), st.text(max_size=200)), max_size=60)
)
def test_any_spans_make_a_short_safe_header_that_adds_up(
    parts: list[tuple[str, float, str]],
) -> None:
    header = server_timing([Metric("total", 1.0)], [Metric(*part) for part in parts])
    assert len(header) <= MAX_LENGTH
    assert header.isascii()
    assert header.isprintable()
    assert 1 <= header.count(";dur=") <= MAX_ENTRIES or ";dur=" in str(parts)


def test_the_longest_parts_stay_and_the_rest_is_summed_up() -> None:
    parts = [Metric(f"part{number}", number / 1000) for number in range(1, 41)]
    found = parse(server_timing([Metric("total", 1.0)], parts))
    assert len(found) == MAX_ENTRIES
    assert list(found)[:3] == ["total", "part40", "part39"]
    assert found["other"] == (sum(range(1, 33)), "32 more")


def test_the_clock_can_not_be_set() -> None:
    """A duration of the wall clock is wrong, or negative, whenever that is put right."""
    for used in (timing_module._clock, request_sample.clock):
        assert used in (time.perf_counter, time.monotonic)


# --- the header of a response ------------------------------------------------------------------


def test_a_response_has_total_app_and_spans() -> None:
    def view() -> str:
        with span("geocode"):
            threading.Event().wait(0.02)
        return "ok"

    found = timings(app_with(ON, view))
    assert list(found) == ["total", "app", "geocode"]
    total, app, geocode = (found[name][0] or 0.0 for name in found)
    assert total >= app >= geocode >= 20


def test_spans_of_one_name_are_one_entry() -> None:
    def view() -> str:
        for _ in range(3):
            with span("query", "SELECT"):
                pass
        return "ok"

    assert timings(app_with(ON, view))["query"][1] == "SELECT 3 times"


def test_a_span_that_is_left_by_an_error_counts() -> None:
    def view() -> str:
        with span("check"):
            abort(403)

    app = app_with(ON, view)
    with app.test_client().get("/") as answer:
        assert answer.status_code == 403
        assert "check" in parse(answer.headers["Server-Timing"])


def test_span_decorates_functions_and_coroutine_functions() -> None:
    @span("plain")
    def plain(number: int) -> int:
        """Documented."""
        return number + 1

    @span("later")
    async def later() -> int:
        await asyncio.sleep(0)
        return 5

    async def view() -> str:
        return str(plain(1) + await later())

    assert (plain.__name__, plain.__doc__) == ("plain", "Documented.")
    assert plain(1) == 2  # outside of a request
    assert {"plain", "later"} <= set(timings(app_with(ON, view)))


def test_endlessly_many_span_names_do_not_fill_the_memory() -> None:
    def view() -> str:
        for number in range(1000):
            with span(f"row {number}"):
                pass
        return "ok"

    found = timings(app_with(ON, view))
    assert len(found) <= MAX_ENTRIES


def test_an_enqueue_is_an_entry_of_its_own() -> None:
    def view() -> str:
        note_enqueue(0.002)
        note_enqueue(0.003)
        return "ok"

    assert timings(app_with(ON, view))["enqueue"] == (5.0, "2 times")


def test_note_enqueue_costs_next_to_nothing_outside_of_a_request() -> None:
    def nothing(seconds: float) -> None:
        pass

    noted = min(timeit.repeat(lambda: note_enqueue(0.1), number=2000))
    called = min(timeit.repeat(lambda: nothing(0.1), number=2000))
    assert noted < 10 * called


def test_others_entries_stay() -> None:
    def view() -> Response:
        return Response("ok", headers=[("Server-Timing", "cdn;dur=1"), ("Server-Timing", "db")])

    with app_with(ON, view).test_client().get("/") as answer:
        values = answer.headers.getlist("Server-Timing")
    assert values[:2] == ["cdn;dur=1", "db"]
    assert values[2].startswith("total;")


def test_no_other_origin_is_allowed_to_read_it() -> None:
    with app_with(ON).test_client().get("/") as answer:
        assert "Timing-Allow-Origin" not in answer.headers


def test_a_streamed_response_is_timed_until_its_head() -> None:
    def view() -> Response:
        def rows() -> Iterator[str]:
            with span("rows"):
                yield "a"

        return Response(stream_with_context(rows()))

    with app_with(ON, view).test_client().get("/") as answer:
        assert answer.get_data() == b"a"
        assert list(parse(answer.headers["Server-Timing"])) == ["total", "app"]


def test_errors_are_timed_too() -> None:
    app = app_with(ON, lambda: 1 / 0)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    with app.test_client().get("/") as answer:
        assert answer.status_code == 500
        assert "total" in parse(answer.headers["Server-Timing"])
    with app.test_client().get("/nowhere") as answer:
        assert "total" in parse(answer.headers["Server-Timing"])


def test_a_request_within_a_request_has_its_own_timing() -> None:
    inner = app_with(ON, lambda: _spanned("inside"))

    def view() -> str:
        with inner.test_client().get("/") as answer:
            g.inner = answer.headers["Server-Timing"]
        return _spanned("outside")

    app = app_with(ON, view)
    assert {"outside"} == set(timings(app)) - {"total", "app"}


def _spanned(name: str) -> str:
    with span(name):
        return "ok"


# --- who sees it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "config", "is_seen"),
    [
        (ProfilerSettings(), {}, False),
        (ProfilerSettings(), {"TESTING": True}, True),
        (ProfilerSettings(), {"DEBUG": True}, True),
        (ProfilerSettings(server_timing=True), {}, True),
        (ProfilerSettings(server_timing=False), {"TESTING": True}, False),
    ],
)
def test_by_default_only_in_debug_and_testing(
    settings: ProfilerSettings, config: dict[str, bool], is_seen: bool
) -> None:
    app = app_with(settings)
    app.config.update(config)  # after init_app, as Flask's own documentation does
    assert bool(timings(app)) is is_seen


def test_a_callable_decides_for_each_request_within_its_context() -> None:
    app = app_with(ProfilerSettings(lambda: request.args.get("staff") == "yes"))
    assert not timings(app)
    assert timings(app, query_string={"staff": "yes"})


def test_a_callable_that_fails_hides_the_header_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_with(ProfilerSettings(lambda: bool(1 / 0)))
    with app.test_client().get("/") as answer:
        assert answer.get_data() == b"ok"
        assert "Server-Timing" not in answer.headers
    assert "OFFLOAD_SERVER_TIMING" in caplog.text


def test_two_apps_have_their_own_settings() -> None:
    seen, unseen = app_with(ON), app_with(ProfilerSettings(False))
    assert timings(seen)
    assert not timings(unseen)


# --- the queue ---------------------------------------------------------------------------------

NOW = 1_800_000_000.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("t=1800000000.000", 0.5),  # nginx: "t=${msec}"
        ("1800000000000", 0.5),  # Heroku: milliseconds
        ("t=1800000000000000", 0.5),  # New Relic: microseconds
        ("t=1800000000.600", 0.0),  # a clock slightly ahead
        ("t=1800000100", None),  # far ahead
        ("t=1799990000", None),  # hours ago
        ("yesterday", None),
        ("t=-5", None),
        ("9" * 400, None),
        ("", None),
        (None, None),
    ],
)
def test_queue_time_from_what_proxies_write(header: str | None, seconds: float | None) -> None:
    found = queue_seconds(header, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-5))


@pytest.mark.parametrize("header", ["X-Request-Start", "X-Queue-Start"])
def test_a_response_has_the_queue_time(header: str) -> None:

    milliseconds = f"{(time.time() - 2) * 1000:.0f}"
    queue = timings(app_with(ON), headers={header: milliseconds})["queue"][0]
    assert queue is not None
    assert 2000 <= queue < 60_000


def test_without_a_proxy_there_is_no_queue_time() -> None:
    assert "queue" not in timings(app_with(ON))
