"""All modes of the lab in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browser_fixtures import browser_fixture  # noqa: F401 (fixtures)
from flask_offload_lab.photo import SAMPLE
from flask_offload_lab.project import SOLVED
from flask_offload_lab.site.modes import MODES
from flask_offload_lab.site.recall import QUESTIONS
from lab_browser import DESKTOP, LONG, PHONE, number, opened
from lab_support import RunningLab, lab_running

LCP = """new Promise((done) => {
  const watch = { type: "largest-contentful-paint", buffered: true };
  new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime)).observe(watch);
  setTimeout(() => done(-1), 5000);
})"""
CROPPED = """[...document.querySelectorAll(".three pre, .code, .pieces")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.textContent)"""
"""Code of which a part can't be seen without scrolling."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader") / "project"


@pytest.fixture(scope="module")
def lab(processes: None, project: Path) -> Iterator[RunningLab]:
    with lab_running(f"project={project}") as found:
        yield found


def has_good_lcp(page: Page) -> bool:
    """In one of three loads: on a busy machine any single one may be late."""
    for _ in range(3):
        if 0 < page.evaluate(LCP) < 2_500:
            return True
        page.reload()
    return False


# --- every page --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_pages_fit_are_quick_and_go_by_keyboard(
    browser: Browser, lab: RunningLab, size: tuple[int, int]
) -> None:
    for path in ["/", *(mode.path for mode in MODES)]:
        with opened(browser, lab, path, size) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0], path
            if size == DESKTOP:
                assert page.evaluate(CROPPED) == [], path
            assert has_good_lcp(page), path
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
            page.keyboard.press("Enter")
            page.wait_for_url("**#content")


def test_the_buttons_lead_through_all(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/") as page:
        page.get_by_role("link", name=re.compile("^1 Why")).first.click()
        for mode in MODES:
            expect(page).to_have_url(lab.origin + mode.path)
            expect(page.locator("[aria-current=page]")).to_have_text(f"{mode.number} {mode.name}")
            page.locator(".foot button").click()
        expect(page).to_have_url(lab.origin + "/")
        expect(page.get_by_text("done ✓")).to_have_count(len(MODES))
        expect(page.locator("nav .tick")).to_have_count(len(MODES))


# --- mode after mode ---------------------------------------------------------------------------


def test_why(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/why") as page:
        page.get_by_role("button", name="Run both, now").click()
        expect(page.locator("#status")).to_contain_text("The bystander waited", timeout=LONG)
        values = {
            key: number(page.locator(f'[data-value="{key}"]').text_content())
            for key in ("sync-visitor", "sync-bystander", "background-visitor", "sync-work")
        }
        assert values["background-visitor"] * 3 < values["sync-visitor"]
        assert values["sync-visitor"] >= values["sync-work"]
        assert (
            page.locator('[data-big="sync"]').text_content()
            == page.locator('[data-value="sync-visitor"]').text_content()
        )


def test_see(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/see") as page:
        page.get_by_role("button", name="Play all three").click()
        expect(page.locator("#status")).to_contain_text("on one scale", timeout=LONG)
        for pattern in ("sync", "thread", "background"):
            picture = page.locator(f'[data-timeline="{pattern}"]')
            expect(picture.locator("rect.waiting")).to_have_count(4)
            expect(picture.locator("rect.work")).to_have_count(3)
            expect(picture.locator("circle.mail")).to_have_count(3)
            expect(page.locator(f"#sum-{pattern}")).to_contain_text("3 mails arrived")

        def widths(pattern: str) -> float:
            rects = page.locator(f'[data-timeline="{pattern}"] rect.waiting').all()
            return sum(float(rect.get_attribute("width") or 0) for rect in rects)

        assert widths("background") * 3 < widths("sync")


def test_measure(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/measure") as page:
        page.get_by_role("button", name="Load /thread").click()
        expect(page.locator("#status")).to_contain_text("/thread: first byte", timeout=LONG)
        page.get_by_role("button", name="Fill in the table").click()
        expect(page.locator("#table-status")).to_contain_text("Filled in", timeout=LONG)

        def cell(row: str, column: str) -> str:
            place = page.locator(f'[data-row="{row}"] [data-cell="{column}"]')
            return str(place.evaluate("(cell) => cell.firstChild.textContent"))

        assert number(cell("background", "ttfb")) * 3 < number(cell("sync", "ttfb"))
        assert number(cell("background", "lcp")) < number(cell("sync", "lcp"))
        same = {cell(row, "dom") for row in ("sync", "thread", "background")}
        assert len(same) == 1, same
        assert int(cell("careless", "dom")) > int(cell("progress", "dom")) > int(same.pop())
        assert cell("background", "verdict") == "✓ Good"
        expect(page.locator("#t-sync")).to_contain_text("The bottleneck: server")
        expect(page.locator("#gauges")).to_contain_text("/background: LCP")
        expect(page.locator("#header")).to_contain_text("enqueue;dur=")
        bystander = [
            number(page.locator(f'[data-value="bystander-{pattern}"]').text_content())
            for pattern in ("sync", "background")
        ]
        assert bystander[1] * 3 < bystander[0]
        page.locator('[data-tip="1"]').click()
        expect(page.locator('[data-tip-list="1"]')).to_contain_text(
            "GET /sync blocked", timeout=LONG
        )


def test_deep(browser: Browser) -> None:
    """With a lab of its own, because it kills that lab's processes."""
    with lab_running() as lab, opened(browser, lab, "/deep") as page:
        page.locator("[data-run=gil]").click()
        expect(page.locator("#gil-status")).to_contain_text("The slowest", timeout=LONG)
        assert page.locator("#gil-plot .dot-a").count() > 20
        for pattern, outcome in (("thread", "✗ lost"), ("background", "✓ kept")):
            page.locator(f"[data-kill={pattern}]").click()
            members = page.locator(f'[data-members="{pattern}"] b')
            expect(members).to_have_text([outcome] * 4, timeout=LONG)
        page.locator("[data-run=notifier]").click()
        expect(page.locator("#notifier-status")).to_contain_text("40 jobs", timeout=LONG)
        page.locator("[data-run=lock]").click()
        expect(page.locator("#lock-status")).to_contain_text("ran again", timeout=LONG)


def test_try(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/try") as page:
        page.get_by_label("JPEG, PNG or WebP").set_input_files(SAMPLE)
        page.get_by_role("button", name="Use this photo").click()
        expect(page.locator("#photo-status")).to_contain_text("512 by 600")
        for _ in range(3):
            page.get_by_role("spinbutton", name="visitors").press("ArrowDown")
        page.get_by_label("as a job").check()
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#status")).to_contain_text("Done.", timeout=LONG)
        expect(page.locator("#mails li")).to_have_count(2)
        expect(page.locator("#timeline rect.waiting")).to_have_count(3)
        pictures = page.locator("#pictures img")
        expect(pictures).to_have_count(4)
        pictures.first.scroll_into_view_if_needed()
        expect(pictures.first).to_have_js_property("naturalWidth", 437)
        sample_app = page.frame_locator("iframe")
        sample_app.get_by_role("button", name="Join").click()
        expect(sample_app.locator("offload-job")).to_contain_text("Done", timeout=LONG)


def test_spot(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/spot") as page:
        # in the first request, Python may run the profiler's sample only after the slow line
        for name, wrong, right in [("tags", 0, 4), ("weather", 0, 2)]:
            section = page.locator(f'[data-spot="{name}"]')
            lines = section.locator("input[type=radio]")
            lines.nth(wrong).check()
            section.get_by_role("button").click()
            status = section.locator("[data-status]")
            expect(status).to_contain_text("Not line", timeout=LONG)
            cause = section.locator(".cause")
            expect(cause).to_have_count(1)
            expect(cause.locator("input")).to_have_value(
                str(lines.nth(right).get_attribute("value"))
            )
            expect(section.locator(".said")).to_contain_text(f"GET /spots/{name} blocked")
            lines.nth(right).check()
            section.get_by_role("button").click()
            expect(status).to_contain_text("Right: line", timeout=LONG)


def test_fix(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/fix") as page:

        def run(key: str, last: str) -> None:
            section = page.locator(f'[data-fix="{key}"]')
            section.get_by_role("button", name="Run it through the gate").click()
            expect(section.locator(".steps li").last).to_contain_text(last, timeout=LONG)

        def choose(key: str, *labels: str) -> None:
            for label in labels:
                choice = page.locator(f'[data-fix="{key}"] option', has_text=label).first
                value = str(choice.get_attribute("value"))
                choice.locator("xpath=..").select_option(value)

        run("mail", "POST /join blocked")
        choose("mail", "offload.task", "send_welcome.enqueue(name)")
        run("mail", "Solved.")
        choose("portraits", "current_job.track", 'make_portraits.enqueue(request.files["photo"])')
        choose("portraits", "offload.accepted(job)")
        run("portraits", "Solved.")
        run("commit", "PayloadError")
        choose("commit", 'enqueue(row["id"])')
        run("commit", "there is no member 1")
        page.locator('[data-piece="commit"] [data-up]').press("Enter")
        run("commit", "Solved.")
        section = page.locator('[data-fix="commit"]')
        section.get_by_role("button", name="Start again").click()
        moving = section.locator("[data-moves]")
        assert [piece.get_attribute("data-piece") for piece in moving.all()] == [
            "insert",
            "enqueue",
            "commit",
        ]


def test_build(browser: Browser, lab: RunningLab, project: Path) -> None:
    with opened(browser, lab, "/build") as page:
        expect(page.locator(".lead")).to_contain_text(str(project))
        steps = page.locator("[data-steps=mail] li")
        page.locator("[data-step=mail]").click()
        expect(steps.last).to_contain_text("no Flask-Offload yet", timeout=LONG)
        expect(page.locator("[data-step=mail]")).to_have_text("Check my folder")  # it has ended
        (project / "app.py").write_text(SOLVED.read_text())
        page.locator("[data-step=mail]").click()
        expect(steps.last).to_contain_text("Solved.", timeout=LONG)


def test_recall(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/recall") as page:
        for index, question in enumerate(QUESTIONS):
            fieldset = page.locator(f"#q{index}")
            answers = fieldset.get_by_role("radio")
            answers.nth((question.right + 1) % 4).check()
            expect(fieldset.locator(".feedback")).to_contain_text("✗ Not yet")
            if index % 2:
                answers.nth(question.right).check()
                expect(fieldset.locator(".feedback")).to_contain_text("✓ Right.")
        expect(page.locator("#score")).to_have_text("6 of 12 right.")
        page.reload()
        expect(page.locator("#score")).to_have_text("6 of 12 right.")


def test_a_guess_is_compared_and_what_was_measured_becomes_a_card(
    browser: Browser, lab: RunningLab
) -> None:
    with opened(browser, lab, "/why") as page:
        page.locator("[data-guess=why-sync] input").fill("100000")
        page.locator("#run").click()
        expect(page.locator("[data-guess=why-sync] output")).to_contain_text(
            "You guessed 100.0 s; it was", timeout=LONG
        )
        expect(page.locator("[data-guess=why-sync] output")).to_contain_text("times too much")
        expect(page.locator("[data-guess=why-background] output")).to_have_text("")
        expect(page.locator("[data-guesses]")).to_contain_text("0 of 1 within a factor of two")
        page.goto(lab.origin)
        expect(page.locator("#finish h2")).to_contain_text("On your machine")
        with page.expect_download() as download:
            page.get_by_role("link", name="Save as a picture").click()
        assert "On my machine" in download.value.path().read_text()


def test_an_experiment_can_be_stopped(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/deep") as page:
        page.locator("[data-run=backlog]").click()
        expect(page.locator("[data-run=backlog]")).to_have_text("Stop")
        page.locator("[data-run=backlog]").click()
        expect(page.locator("#backlog-status")).to_have_text("Stopped.")
        page.locator("[data-run=notifier]").click()
        expect(page.locator("#notifier-status")).to_contain_text("40 jobs", timeout=LONG)


def test_recall_without_javascript(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/recall", javascript=False) as page:
        page.locator("#q0").get_by_role("radio").nth(QUESTIONS[0].right).check()
        page.locator("#q0").get_by_role("button", name="Check").click()
        expect(page).to_have_url(re.compile("#q0$"))
        expect(page.locator("#q0 .feedback")).to_contain_text("✓ Right.")
        expect(page.locator("#score")).to_contain_text("1 of 12 right")


# --- others ------------------------------------------------------------------------------------

HOSTILE = """<!doctype html><title>Elsewhere</title>
<img id="image" src="SAMPLE_APP/sync?member=driven-by-image">
<iframe id="frame" src="LAB/why"></iframe>
<form id="form" method="post" action="LAB/run/race"></form>
"""


@contextmanager
def elsewhere(html: str) -> Iterator[str]:
    """Another web site, as far as a browser is concerned: localhost is not 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_web_page_can_drive_nothing(browser: Browser, lab: RunningLab) -> None:
    html = HOSTILE.replace("SAMPLE_APP", lab.sample_app).replace("LAB", lab.origin)
    answers: dict[str, int] = {}
    with elsewhere(html) as address:
        page = browser.new_page()
        page.on("response", lambda answer: answers.update({answer.url: answer.status}))
        page.goto(address)
        page.wait_for_load_state("networkidle")
        assert page.locator("#image").evaluate("(image) => image.naturalWidth") == 0
        results = page.evaluate(
            """async (lab) => {
              const post = { method: "POST", body: '{"pattern":"sync","visitors":1}' };
              const json = { "Content-Type": "application/json" };
              const tries = [
                fetch(lab + "/run/race", { ...post, mode: "no-cors" }),
                fetch(lab + "/run/race", { ...post, headers: json }),
                fetch(lab + "/why"),
              ];
              return (await Promise.allSettled(tries)).map((each) => each.value?.type ?? "refused");
            }""",
            lab.origin,
        )
        assert results == ["refused"] * 3
        page.locator("#form").evaluate("(form) => form.submit()")
        expect(page.locator("body")).to_contain_text("sent for the page of another site")
        page.close()
    of_lab = {url: status for url, status in answers.items() if "127.0.0.1" in url}
    assert of_lab
    assert set(of_lab.values()) == {403}, of_lab
