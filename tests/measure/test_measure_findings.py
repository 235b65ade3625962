"""From samples to sentences: what is claimed, what is not, and what is called unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_offload.measure.caveats import caveats, problems
from flask_offload.measure.figures import (
    CLS,
    FCP,
    FIGURES,
    LCP,
    LIGHTHOUSE,
    TTFB,
    Rating,
    quantity,
    summarize,
)
from flask_offload.measure.findings import Kind, compare, findings, headline, unchanged
from flask_offload.measure.pipeline import pipeline
from flask_offload.measure.samples import Answer, LcpParts, Measurement, PaintCost, Variant
from flask_offload.measure.verdict import verdict
from measure_samples import SETUP, before_and_after, page_load, probed, variant


def sentences(measurement: Measurement, *kinds: Kind) -> str:
    return "\n".join(each.sentence for each in findings(measurement) if each.kind in kinds)


# --- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (4.14, "ms", "4.1 ms"),
        (9.96, "ms", "10 ms"),
        (52.4, "ms", "52 ms"),
        (1504.3, "ms", "1,504 ms"),
        (1, "reflows", "1 reflow"),
        (122, "reflows", "122 reflows"),
        (0.0512, "score", "0.051"),
        (None, "ms", "none"),
    ],
)
def test_numbers_are_as_precise_as_they_are_worth(
    value: float | None, unit: str, text: str
) -> None:
    assert quantity(value, unit) == text


def test_a_summary_leaves_out_what_was_not_reported() -> None:
    summary = summarize([None, 3.0, 1.0, 2.0])
    assert summary is not None
    assert (summary.median, summary.low, summary.high, summary.n) == (2.0, 1.0, 3.0, 3)
    assert summarize([None]) is None


def test_limits_are_inclusive_as_in_web_vitals() -> None:
    assert [TTFB.rate(value) for value in (800, 801, 1800, 1801)] == [
        Rating.GOOD,
        Rating.FAIR,
        Rating.FAIR,
        Rating.POOR,
    ]
    assert LIGHTHOUSE.rate(600) is Rating.GOOD
    assert LIGHTHOUSE.rate(600.1) is Rating.POOR
    assert (FCP.good, FCP.poor, LCP.good, LCP.poor) == (1_800, 3_000, 2_500, 4_000)
    assert (CLS.good, CLS.poor) == (0.1, 0.25)


# --- before and after --------------------------------------------------------------------------


def test_the_sentence_on_top_has_both_numbers_and_both_pages() -> None:
    assert headline(before_and_after()) == (
        "/background answers after 8.0 ms instead of 1,506 ms. "
        "With 4 visitors on it, the bystander's page takes 8.0 ms instead of 5,004 ms."
    )


def test_times_that_changed_are_claimed_with_limit_and_source() -> None:
    faster = [each for each in findings(before_and_after()) if each.kind is Kind.FASTER]
    assert [each.sentence.partition(":")[0] for each in faster] == [
        "TTFB, from navigation start",
        "Response time",
        "FCP",
        "LCP",
    ]
    ttfb = faster[0]
    assert (ttfb.number, ttfb.unit, ttfb.subject) == (8.0, "ms", "/background")
    assert ttfb.threshold == "good up to 800 ms, poor above 1,800 ms"
    assert ttfb.source == "web-vitals: TTFB"


def test_a_wait_within_the_limit_is_not_sold_as_broken() -> None:
    """1.5 s of work alone leave LCP good: claiming more would be wrong."""
    found = {each.sentence.partition(":")[0]: each for each in findings(before_and_after())}
    assert "no limit is broken" in str(found["LCP"].caveat)
    assert "no limit is broken" not in str(found["TTFB, from navigation start"].caveat)


def test_what_did_not_change_is_said_as_plainly() -> None:
    same = sentences(before_and_after(), Kind.SAME)
    for text in ("1 reflow", "2 style recalculations", "Paint cost", "CLS"):
        assert text in same
    assert unchanged(before_and_after()) == (
        "Unchanged: 75 DOM operations, 1 reflow, 2 style recalculations, "
        "paint cost 1.7 ms, CLS 0.000."
    )


def test_more_reflows_are_a_cost_of_the_background_page() -> None:
    slow = variant("/sync", 1_500, 5_000)
    thrash = variant("/thrash", 2, 4, reflows=122, dom_operations=341)
    worse = sentences(Measurement(SETUP, (slow, thrash)), Kind.MORE)
    assert "122 reflows in /thrash, 1 reflow in /sync" in worse
    assert "DOM operations" not in worse  # more of them are not worse


def test_one_reflow_more_is_noise() -> None:
    one, two = variant("/a", 2, 4), variant("/b", 2, 4, reflows=2)
    compared = compare(FIGURES["reflows"], one, two)
    assert compared is not None
    assert compared.change == 0


@pytest.mark.parametrize(
    ("key", "field", "value", "change"),
    [
        ("fcp", "fcp_ms", 54 + 20, 0),
        ("fcp", "fcp_ms", 54 + 25, 1),
        ("lcp", "lcp_ms", 64 + 20, 0),
        ("lcp", "lcp_ms", 64 + 25, 1),
        ("style-recalcs", "style_recalcs", 2 + 1, 0),
        ("style-recalcs", "style_recalcs", 2 + 2, 1),
        ("reflows", "reflows", 1 + 2, 1),
        ("dom-operations", "dom_operations", 75 + 1, 1),
    ],
)
def test_a_figure_must_change_by_more_than_it_varies_by_itself(
    key: str, field: str, value: float, change: int
) -> None:
    """FCP and LCP by 20 ms, Chromium's counters by 1; DOM operations not at all."""
    compared = compare(FIGURES[key], variant("/a", 2, 4), variant("/b", 2, 4, **{field: value}))
    assert compared is not None
    assert compared.change == change


def test_overlapping_values_are_no_difference() -> None:
    one = replace(variant("/a", 2, 4), loads=tuple(page_load(ms) for ms in (10, 50, 90)))
    other = replace(variant("/b", 2, 4), loads=tuple(page_load(ms) for ms in (40, 80, 120)))
    compared = compare(FIGURES["ttfb"], one, other)
    assert compared is not None
    assert compared.change == 0
    text = sentences(Measurement(SETUP, (one, other)), Kind.UNSURE)
    assert "no difference that can be told" in text


def test_paint_that_doubles_is_still_noise() -> None:
    one, other = variant("/a", 2, 4), variant("/b", 2, 4)
    other = replace(other, paints=tuple(PaintCost(5, ms, 9, 2) for ms in (3.4, 3.9, 4.2)))
    compared = compare(FIGURES["paint"], one, other)
    assert compared is not None
    assert compared.change == 0
    assert not FIGURES["paint"].stable


def test_a_slower_after_is_called_slower() -> None:
    first, last = reversed(before_and_after().variants)
    text = headline(Measurement(SETUP, (first, last)))
    assert text.startswith("/sync answers only after 1,506 ms, /background after 8.0 ms.")


def test_two_equal_pages_are_called_equal() -> None:
    text = headline(Measurement(SETUP, (variant("/a", 2, 4), variant("/b", 2, 4))))
    assert text.startswith("/b and /a answer equally soon")


def test_what_is_shown_later_is_in_the_headline_of_equal_answers() -> None:
    quick, late = variant("/a", 2, 4), variant("/b", 2, 4, lcp_ms=652.0)
    text = headline(Measurement(SETUP, (quick, late)))
    assert "equally soon" in text
    assert "but /b shows its largest element after 652 ms instead of 64 ms" in text


def test_two_equal_slow_deployments_show_no_gain() -> None:
    text = headline(Measurement(SETUP, (variant("/a", 800, 1_600), variant("/b", 800, 1_600))))
    assert "no longer than otherwise (1,604 ms)" in text


def test_threads_to_spare_hide_the_queue_and_the_headline_says_so() -> None:
    slow = variant("/slow", 900, 4)
    text = headline(Measurement(SETUP, (slow,)))
    assert "No queue can show on /slow" in text
    (queue,) = [f for f in findings(Measurement(SETUP, (slow,))) if "visitors on" in f.sentence]
    assert "flask run" in str(queue.caveat)
    blocked = headline(Measurement(SETUP, (variant("/slow", 900, 2_000),)))
    quick = headline(Measurement(SETUP, (variant("/quick", 2, 4),)))
    assert "No queue" not in blocked + quick


def test_six_times_as_much_is_not_called_unchanged() -> None:
    one, other = variant("/a", 2, 4), variant("/b", 2, 4)
    one = replace(one, paints=tuple(PaintCost(5, ms, 9, 2) for ms in (0.5, 0.6, 0.7)))
    other = replace(other, paints=tuple(PaintCost(5, ms, 9, 2) for ms in (3.4, 3.5, 4.2)))
    text = unchanged(Measurement(SETUP, (one, other)))
    assert text is not None
    assert text.endswith("Can't tell: paint cost 3.5 ms (before: 0.6 ms).")


def test_a_good_and_quick_page_has_no_bottleneck() -> None:
    assert "/background" not in sentences(before_and_after(), Kind.BOTTLENECK)
    assert "/sync" in sentences(before_and_after(), Kind.BOTTLENECK)


def test_a_busy_machine_is_a_problem() -> None:
    busy = replace(before_and_after(), setup=replace(SETUP, load_average=3.3))
    assert "load average 3.3 on 2 cores" in sentences(busy, Kind.PROBLEM)
    assert "load average" not in sentences(before_and_after(), Kind.PROBLEM)


def test_one_page_alone_is_compared_with_the_idle_server() -> None:
    measured = before_and_after()
    text = headline(replace(measured, variants=measured.variants[:1]))
    assert text == (
        "/sync answers after 1,506 ms. "
        "With 4 visitors on it, the bystander's page takes 5,004 ms instead of 3.7 ms."
    )


# --- the queue ---------------------------------------------------------------------------------


def test_the_queue_is_named_and_the_app_is_blind_to_it() -> None:
    text = sentences(before_and_after(), Kind.QUEUE)
    assert "With 4 visitors on /sync, the bystander's page takes 5,004 ms" in text
    assert "the app reports 2.0 ms for it, because it can't see the 5,002 ms in the queue" in text
    assert "/background" not in text


def test_without_server_timing_the_queue_is_not_told_apart() -> None:
    slow, quick = before_and_after().variants
    assert slow.bystander is not None
    silent = tuple(replace(answer, server_ms=None) for answer in slow.bystander.answers)
    slow = replace(slow, bystander=replace(slow.bystander, answers=silent))
    measured = replace(before_and_after(), variants=(slow, quick))
    assert "can't see" not in sentences(measured, Kind.QUEUE)


# --- the pipeline ------------------------------------------------------------------------------


def test_the_pipeline_adds_up_and_names_the_bottleneck() -> None:
    whole = pipeline(variant("/sync", 1_500, 5_000))
    assert whole is not None
    kinds = ["server", "network", "body", "fetch", "browser"]
    assert [stage.kind for stage in whole.stages] == kinds
    assert whole.total_ms == pytest.approx(1_562)  # the LCP of the load in the middle
    assert whole.bottleneck.kind == "server"
    assert sum(whole.share(stage) for stage in whole.stages) == pytest.approx(1)
    quick = pipeline(variant("/background", 2, 4))
    assert quick is not None
    assert quick.bottleneck.kind == "browser"


def test_a_picture_that_is_fetched_for_long_is_a_bottleneck_of_its_own() -> None:
    """Not rendering: it may wait for a worker, as others do."""
    parts = LcpParts(6.0, 10.0, 1_500.0, 20.0)
    page = variant("/", 2, 4, lcp_ms=1_536.0, lcp_parts=parts)
    whole = pipeline(page)
    assert whole is not None
    assert whole.bottleneck.kind == "fetch"
    assert whole.bottleneck.ms == pytest.approx(1_500)
    assert whole.total_ms == pytest.approx(1_536)
    text = sentences(Measurement(SETUP, (page,)), Kind.BOTTLENECK)
    assert "most of the wait is fetching the largest element, 1,500 ms of 1,536 ms" in text


def test_what_was_fetched_before_the_page_had_arrived_is_not_counted_twice() -> None:
    """As after an early flush: the picture is asked for while the page is still coming."""
    parts = LcpParts(6.0, 10.0, 1_000.0, 20.0)
    page = variant("/", 2, 4, response_ms=600.0, lcp_ms=1_036.0, lcp_parts=parts)
    whole = pipeline(page)
    assert whole is not None
    assert {stage.kind: stage.ms for stage in whole.stages}["fetch"] == pytest.approx(416)
    assert whole.total_ms == pytest.approx(1_036)


def test_text_is_not_fetched() -> None:
    whole = pipeline(variant("/text", 2, 4, lcp_parts=LcpParts(6.0, 0.0, 0.0, 56.0)))
    assert whole is not None
    assert [stage.kind for stage in whole.stages] == ["server", "network", "body", "browser"]


def test_a_body_sent_slowly_is_a_bottleneck_of_its_own() -> None:
    stream = variant("/stream", 2, 4, response_ms=1_500.0, lcp_ms=1_540.0)
    whole = pipeline(stream)
    assert whole is not None
    assert whole.bottleneck.kind == "body"


def test_what_was_shown_before_the_end_costs_the_browser_nothing() -> None:
    whole = pipeline(variant("/stream", 2, 4, response_ms=1_500.0, lcp_ms=60.0))
    assert whole is not None
    assert min(stage.ms for stage in whole.stages) == 0
    assert whole.total_ms == pytest.approx(1_500)


def test_without_server_timing_app_and_queue_are_one() -> None:
    whole = pipeline(variant("/sync", 1_500, 5_000, server_ms=None))
    assert whole is not None
    assert [stage.kind for stage in whole.stages] == ["waiting", "body", "fetch", "browser"]
    measured = Measurement(SETUP, (variant("/sync", 1_500, 5_000, server_ms=None),))
    (found,) = [each for each in findings(measured) if each.kind is Kind.BOTTLENECK]
    assert "no Server-Timing" in str(found.caveat)


def test_without_a_browser_the_pipeline_ends_with_the_response() -> None:
    whole = pipeline(replace(variant("/sync", 1_500, 5_000), loads=()))
    assert whole is not None
    assert [stage.kind for stage in whole.stages] == ["server", "network", "body"]


def test_nothing_reported_is_no_pipeline() -> None:
    nothing = probed([])
    assert pipeline(Variant("/", "http://127.0.0.1/", "GET", nothing)) is None


# --- caveats and problems ------------------------------------------------------------------------


def test_a_redirect_hides_the_wait_from_devtools() -> None:
    posted = variant("POST /form", 0, 4, redirects=1, ttfb_ms=1_514.8, waiting_ms=2.3)
    (caveat,) = [caveat for caveat in caveats(posted) if "DevTools" in caveat.sentence]
    assert "2.3 ms of waiting" in caveat.sentence
    assert "1,515 ms" in caveat.sentence


def test_a_quick_redirect_is_no_trap() -> None:
    posted = variant("POST /form", 0, 4, redirects=1, ttfb_ms=9.0, waiting_ms=2.3)
    assert not [caveat for caveat in caveats(posted) if "DevTools" in caveat.sentence]


def test_an_early_flush_makes_ttfb_lie() -> None:
    stream = variant("/stream", 2, 4, ttfb_ms=3.0, response_ms=1_504.0, lcp_ms=1_544.0)
    assert any("body was sent slowly" in caveat.sentence for caveat in caveats(stream))
    assert not list(caveats(variant("/sync", 1_500, 4)))


def test_a_page_without_lcp_is_explained_not_crashed_on() -> None:
    empty = variant("/empty", 2, 4, fcp_ms=None, lcp_ms=None, lcp_parts=None, lcp_element=None)
    flat = variant("/flat", 2, 4, lcp_ms=None, lcp_parts=None, lcp_element=None)
    assert any("neither FCP nor LCP" in caveat.sentence for caveat in caveats(empty))
    assert any("nothing on the page counts" in caveat.sentence for caveat in caveats(flat))
    assert findings(Measurement(SETUP, (empty, flat)))


def test_a_result_shown_late_counts_as_lcp() -> None:
    late = variant("/late", 2, 4, lcp_ms=1_600.0, lcp_element="p.result")
    (caveat,) = [caveat for caveat in caveats(late) if "largest element" in caveat.sentence]
    assert "p.result" in caveat.sentence
    assert "shown late" in caveat.remedy


def test_a_picture_that_came_late_is_not_called_a_result_shown_late() -> None:
    parts = LcpParts(6.0, 10.0, 1_500.0, 20.0)
    late = variant("/late", 2, 4, lcp_ms=1_536.0, lcp_parts=parts)
    (caveat,) = [caveat for caveat in caveats(late) if "largest element" in caveat.sentence]
    assert caveat.remedy.startswith("1,500 ms of that it was being fetched")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": 500}, "ended with status 500"),
        ({"settled": False}, "still changed"),
        ({"visibility": "hidden"}, "were not visible"),
        ({"blocked_hosts": ("cdn.example.com",)}, "cdn.example.com, which was blocked"),
    ],
)
def test_reasons_for_doubt_are_problems(changes: dict[str, object], words: str) -> None:
    doubtful = variant("/page", 2, 4, **changes)
    assert any(words in each.sentence for each in problems(doubtful))
    assert not list(problems(variant("/page", 2, 4)))


def test_failed_requests_are_problems() -> None:
    probe = replace(probed([1.0]), answers=(Answer(0, 1, 1, 500), Answer(0, error="refused")))
    failing = replace(variant("/page", 2, 4), probe=probe)
    (problem,) = problems(failing)
    assert "2 of 2 requests failed (status 500: 1, refused: 1)" in problem.sentence
    assert verdict(failing, [failing]).rating is Rating.POOR


def test_an_error_page_that_a_good_request_leads_to_is_poor() -> None:
    """The form is accepted, with 303; the page after it fails, quickly."""
    lost = variant("POST /form", 2, 4, status=500)
    assert lost.probe.failed == 0
    judged = verdict(lost, [lost])
    assert (judged.rating, judged.reasons) == (Rating.POOR, ("5 of 5 page loads failed",))


def test_a_bystander_page_that_fails_is_poor() -> None:
    page = variant("/page", 2, 4)
    assert page.bystander is not None
    refused = replace(page.bystander, answers=(Answer(0, 1, 1, 500), Answer(0, 1, 1, 200)))
    judged = verdict(failing := replace(page, bystander=refused), [failing])
    assert (judged.rating, judged.reasons) == (Rating.POOR, ("1 of 2 bystander requests failed",))


def test_a_wide_spread_is_a_problem() -> None:
    busy = replace(variant("/page", 200, 4), loads=tuple(map(page_load, (200, 210, 900))))
    assert any("spreads" in each.sentence for each in problems(busy))


# --- the verdict -------------------------------------------------------------------------------


def test_the_verdict_holds_every_variant_against_the_limits() -> None:
    slow, quick = before_and_after().variants
    bad, good = (verdict(each, [slow, quick]) for each in (slow, quick))
    assert bad.rating is Rating.POOR
    assert any("limit 600 ms" in reason for reason in bad.reasons)
    assert any("The bystander's TTFB 5,004 ms" in reason for reason in bad.reasons)
    assert (good.rating, good.reasons, str(good)) == (Rating.GOOD, (), "✓ Good")


def test_the_verdict_distinguishes_background_patterns() -> None:
    plain = variant("/background", 2, 4)
    banner = variant("/banner", 2, 4, cls=0.15)
    thrash = variant("/thrash", 2, 4, reflows=122)
    every = [plain, banner, thrash]
    assert [verdict(each, every).rating for each in every] == [
        Rating.GOOD,
        Rating.FAIR,
        Rating.FAIR,
    ]
    assert "121 reflows more" in verdict(thrash, every).reasons[0]


def test_the_verdict_needs_no_browser() -> None:
    slow = Variant("/sync", "http://127.0.0.1/", "GET", probed([900.0] * 5))
    assert verdict(slow, [slow]).rating is Rating.POOR


@pytest.mark.parametrize(("wait", "rating"), [(590, Rating.GOOD), (610, Rating.POOR)])
def test_the_same_wait_has_the_same_verdict_with_and_without_a_browser(
    wait: float, rating: Rating
) -> None:
    seen = replace(variant("/page", wait, 4), bystander=None)
    assert verdict(seen, [seen]).rating is rating
    without = replace(seen, loads=(), paints=())
    assert verdict(without, [without]).rating is rating
