"""The lab over HTTP, as it is without JavaScript: pages, facts, quiz, photo, experiments."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import support
from flask_offload_lab.experiments.headless import headless
from flask_offload_lab.mailserver import Pace
from flask_offload_lab.photo import SAMPLE
from flask_offload_lab.processes import descendants
from flask_offload_lab.site.modes import MODES
from flask_offload_lab.site.recall import QUESTIONS
from flask_offload_lab.testbed import LabTestbed
from lab_support import APP, RunningLab, lab_running
from measure_support import require_chromium
from proc import alive
from support import Response, http_get, http_request, running, wait_until

PATHS = ["/", *(mode.path for mode in MODES)]


@pytest.fixture(scope="module")
def lab(processes: None) -> Iterator[RunningLab]:
    with lab_running() as found:
        yield found


# --- pages -------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Elements with their attributes, in order, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.processes
@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_whole_and_light(lab: RunningLab, path: str) -> None:
    answer = lab.get(path)
    assert answer.status == 200
    page = Outline(answer.text)
    scripts = [each["src"] for each in page.all("script")]
    styles = [each["href"] for each in page.all("link") if each["rel"] == "stylesheet"]
    files = [lab.get(str(url)) for url in [*scripts, *styles]]
    assert all(file.status == 200 for file in files)
    assert len(answer.body) + sum(len(file.body) for file in files) < 100_000
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title") != []
    assert "style" not in {name for _, attributes in page.elements for name in attributes}
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]


@pytest.mark.parametrize("path", PATHS)
def test_every_control_and_picture_has_a_name(lab: RunningLab, path: str) -> None:
    page = Outline(lab.get(path).text)
    ids = {attributes.get("id") for _, attributes in page.elements}
    for tag, attributes in page.elements:
        if tag in ("img", "svg", "iframe", "meter", "select"):
            named = {"alt", "aria-label", "aria-labelledby", "title", "aria-hidden"}
            assert named & attributes.keys(), (tag, attributes)
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in ids, reference


@pytest.mark.parametrize("path", PATHS)
def test_no_link_leads_nowhere(lab: RunningLab, path: str) -> None:
    page = Outline(lab.get(path).text)
    for link in page.all("a"):
        target = str(link["href"])
        if target.startswith("#"):
            assert target[1:] in {attributes.get("id") for _, attributes in page.elements}
        elif target.startswith("/"):
            assert lab.get(target).status == 200
        else:
            assert target.startswith(lab.sample_app)


def test_has_every_fact_of_the_lesson(lab: RunningLab) -> None:
    """The lab began as that lesson."""
    home, measure = Outline(lab.get("/").text).text, Outline(lab.get("/measure").text).text
    for fact in ("Why background processing matters in Flask", "High impact", "about 8 minutes"):
        assert fact in home
    for fact in (
        "Thread(target=",
        "Gain: an immediate response, earlier LCP",
        "Cost: the response waits for the whole task",
        "DOM operations",
        "Reflows",
        "Paint cost",
        "Verdict",
        "the server makes it, the network carries it, the browser draws it",
        "LCP",
        "Never run a long task while a request is being handled",
        "Background tasks let the server answer sooner",
        "Look at the response time of every route, in the Network tab of DevTools",
        "long first byte",
        "Server-Timing",
        "2.5 s",
    ):
        assert fact in measure, fact


def test_shows_the_code_that_really_runs(lab: RunningLab) -> None:
    code = re.sub(r"<[^>]+>", "", lab.get("/measure").text)
    for line in ("    welcome(member)", "job = welcome.enqueue(member)", "def welcome(member"):
        assert line in code


def test_remembers_what_is_finished(lab: RunningLab) -> None:
    answer = lab.post("/done/why", {})
    assert (answer.status, answer.headers["Location"]) == (303, "/see")
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    kept = cookie.partition(";")[0]
    answer = lab.post("/done/deep", {}, Cookie=kept)
    kept = answer.headers["Set-Cookie"].partition(";")[0]
    page = lab.get("/", Cookie=kept)
    assert page.text.count("done ✓") == 2
    assert lab.post("/done/nothing", {}).status == 404
    assert lab.get("/", Cookie="lab_done=why.<script>.deep").text.count("done ✓") == 2


@pytest.mark.parametrize("path", ["/nothing", "/run/race", "/static/nothing.js"])
def test_errors_are_plain_text(lab: RunningLab, path: str) -> None:
    answer = lab.get(path)
    assert answer.status in (404, 405)
    assert answer.headers["Content-Type"].startswith("text/plain")


# --- the quiz ----------------------------------------------------------------------------------


def answered(lab: RunningLab, form: dict[str, str], cookie: str = "") -> tuple[str, str]:
    answer = lab.post("/recall", form, Cookie=cookie)
    assert answer.status == 303
    kept = answer.headers["Set-Cookie"].partition(";")[0]
    return lab.get(str(answer.headers["Location"]).partition("#")[0], Cookie=kept).text, kept


def score(page: str) -> str:
    found = re.search(r'id="score"[^>]*>(.*?)</p>', page, re.S)
    assert found
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def test_the_quiz_explains_right_and_wrong(lab: RunningLab) -> None:
    first, second = QUESTIONS[:2]
    page, kept = answered(lab, {"q0": str(first.right)})
    assert "✓ Right." in page
    assert first.because in Outline(page).text
    assert score(page) == "1 of 12 right, 11 to go."
    wrong = (second.right + 1) % 4
    page, kept = answered(lab, {"q1": str(wrong)}, kept)
    assert "✗ Not yet." in page  # the answer is not shown before a second try
    assert second.because.partition("`")[0] not in Outline(page).text
    assert score(page) == "1 of 12 right, 10 to go."
    page, same = answered(lab, {"q1": str(wrong)}, kept)
    assert same == kept  # the form sends all its answers each time
    other = (second.right + 2) % 4
    page, _ = answered(lab, {"q1": str(other)}, kept)
    assert f"✗ Not quite: it is {'ABCD'[second.right]}." in page
    assert second.because.partition("`")[0] in Outline(page).text
    page, kept = answered(lab, {"q1": str(second.right)}, kept)
    assert score(page) == "2 of 12 right, 10 to go."
    assert second.variant.text in Outline(page).text  # what was missed is asked once more
    assert first.variant.text not in Outline(page).text
    page, kept = answered(lab, {"v1": str(second.variant.right)}, kept)
    assert page.count("✓ Right.") == 3
    assert score(page) == "2 of 12 right, 10 to go."
    page, kept = answered(lab, {"again": "1"}, kept)
    assert score(page) == "0 of 12 right, 12 to go."


def test_the_quiz_can_be_won(lab: RunningLab) -> None:
    page, _ = answered(lab, {f"q{n}": str(each.right) for n, each in enumerate(QUESTIONS)})
    assert score(page) == "12 of 12 right. All of them."


@pytest.mark.parametrize("value", ["9", "-1", "", "x", "01"])
def test_the_quiz_takes_only_its_own_answers(lab: RunningLab, value: str) -> None:
    page, _ = answered(lab, {"q0": value}, "lab_recall=zz99")
    assert score(page) == "0 of 12 right, 12 to go."


# --- the photo ---------------------------------------------------------------------------------


def send_photo(lab: RunningLab, data: bytes, path: str = "/photo") -> Response:
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n',
        data,
        b"\r\n--edge--\r\n",
    ]
    headers = {
        "Origin": lab.origin,
        "Accept": "text/plain",
        "Content-Type": "multipart/form-data; boundary=edge",
    }
    body = b"".join(parts)
    return http_request("POST", lab.origin + path, body=body, headers=headers, timeout=60)


def test_members_get_the_visitors_own_photo(lab: RunningLab) -> None:
    wide = io.BytesIO()
    Image.new("RGB", (600, 300), "teal").save(wide, "JPEG")
    answer = send_photo(lab, wide.getvalue())
    assert (answer.status, answer.text) == (
        200,
        "Taken, 600 by 300 pixels. The next members get it.\n",
    )
    assert "Your photo is in use." in lab.get("/try").text
    events = lab.run("race", pattern="background", visitors=1)
    [name] = {event["name"] for event in events if event["what"] == "work"}
    picture = http_get(f"{lab.sample_app}/members/{name}/256.webp")
    with Image.open(io.BytesIO(picture.body)) as image:
        assert image.size == (256, 128)
    assert lab.post("/photo/remove", {}).status == 303
    assert "The photo of Grace Hopper is in use" in lab.get("/try").text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Choose a photo"),
        (b"GIF89a", "no JPEG, PNG or WebP"),
        (SAMPLE.read_bytes()[:20_000], "damaged"),
    ],
)
def test_refuses_what_is_no_photo(lab: RunningLab, data: bytes, reason: str) -> None:
    answer = send_photo(lab, data)
    assert answer.status == 400
    assert reason in answer.text
    assert "The photo of Grace Hopper is in use" in lab.get("/try").text


def test_refuses_a_photo_that_is_too_large(lab: RunningLab) -> None:
    assert send_photo(lab, bytes(14 * 1024 * 1024)).status == 413


def test_pictures_are_found_by_their_own_names_only(lab: RunningLab) -> None:
    for path in ("../../journal.txt", "..%2f..%2fjournal.txt", "256.png", "x/y/z"):
        assert http_get(f"{lab.sample_app}/members/warm-up-1/{path}").status == 404
    assert http_get(f"{lab.sample_app}/members/warm-up-1/256.webp").status == 200


# --- experiments -------------------------------------------------------------------------------


def waits(events: list[dict[str, object]]) -> dict[str, float]:
    return {
        str(event["lane"]): float(str(event["took"]))
        for event in events
        if event["what"] == "waiting" and event["kind"] == "end"
    }


def test_a_race_in_the_request_is_a_queue(lab: RunningLab) -> None:
    events = lab.run("race", pattern="sync", visitors=2)
    waited = waits(events)
    people = sorted([waited["visitor 0"], waited["visitor 1"]])
    assert waited["bystander"] > people[0]
    assert people[1] > people[0] * 1.3
    assert sum(event["what"] == "mail" for event in events) == 2
    ends = [event for event in events if event["what"] == "work" and event["kind"] == "end"]
    assert len(ends) == 2


@pytest.mark.parametrize("pattern", ["thread", "background"])
def test_a_race_with_the_work_moved_is_no_queue(lab: RunningLab, pattern: str) -> None:
    events = lab.run("race", pattern=pattern, visitors=2)
    work = [float(each["took"]) for each in events if each["what"] == "work" and "took" in each]
    assert len(work) == 2
    assert max(waits(events).values()) < min(work)
    opened = [event["id"] for event in events if event["kind"] == "begin"]
    closed = [event["id"] for event in events if event["kind"] == "end"]
    assert sorted(opened) == sorted(closed)


def test_a_race_is_not_disturbed_by_the_work_of_earlier_visitors(lab: RunningLab) -> None:
    """That work ends first; the race goes on until its own has ended."""
    assert http_get(f"{lab.sample_app}/background?member=earlier").status == 200
    events = lab.run("race", pattern="background", visitors=1)
    ended = [each["name"] for each in events if each["what"] == "work" and each["kind"] == "end"]
    mails = [event["name"] for event in events if event["what"] == "mail"]
    assert len(ended) == 1
    assert mails == ended
    assert "earlier" not in ended


@pytest.mark.processes
def test_measure_counts_what_a_page_cannot_count_about_itself() -> None:
    """Also while the work takes long: the page is observed until its job has ended."""
    require_chromium()
    slow = Pace(greeting=1.5, recipient=1.5, content=(0.1, 0.1))
    with LabTestbed(lab_origin="http://127.0.0.1:1", pace=slow) as testbed:
        [found] = [event for event in headless(testbed, ["careless"]) if "pattern" in event]
    assert found["pattern"] == "careless"
    assert found["reflows"] >= 60  # one for each row that asks for the layout
    assert found["dom"] > 60
    assert found["paint"] > 0


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("race", {"pattern": "sync"}),
        ("race", {"pattern": "sync", "visitors": 21}),
        ("race", {"pattern": "sync", "visitors": True}),
        ("race", {"pattern": "; rm", "visitors": 1}),
        ("tip", {"tip": 1, "on": "user_app"}),
        ("fix", {"challenge": "mail", "order": ["import os"], "choices": {}}),
        ("fix", {"challenge": "mail", "order": "mail", "choices": []}),
        ("step", {"step": "mail"}),
        ("queueing", {"rate": 41, "work": 100, "threads": 1, "workers": 1}),
        ("queueing", {"rate": 10, "work": 0, "threads": 1, "workers": 1}),
        ("storm", {"jitter": True}),
        ("nothing", {}),
    ],
)
def test_experiments_refuse_unknown_parameters(
    lab: RunningLab, name: str, params: dict[str, object]
) -> None:
    with pytest.raises(AssertionError, match=r"\."):
        lab.run(name, **params)


@pytest.mark.processes
def test_the_tips_are_checked_on_a_users_own_app(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import time\n"
        "from flask import Flask\n"
        "app = Flask(__name__)\n"
        "@app.get('/')\n"
        "def home(): return 'quick'\n"
        "@app.get('/report')\n"
        "def report():\n"
        "    count() if len(sent) < 2 else send()\n"
        "    sent.append(1)\n"
        "    return 'slow'\n"
        "sent = []\n"
        "def count(): time.sleep(0.9)\n"
        "def send(): time.sleep(0.65)\n"
        "@app.get('/items/<int:id>')\n"
        "def item(id): return str(id)\n"
    )
    command = [sys.executable, str(APP), "user_app=shop"]
    with running(command, cwd=tmp_path, ready="The lab:", timeout=60) as process:
        origin = re.findall(r"http://[\d.:]+", process.output())[0]
        lab = RunningLab(origin, "")
        assert "Check it on shop" in lab.get("/measure").text
        for cause in ("shop.py:12 count", "shop.py:13 send"):  # each tip visits twice
            lines = [event.get("line", "") for event in lab.run("tip", tip=1, on="user_app")]
            [found] = [line for line in lines if line.startswith("✗")]
            assert "GET /report blocked" in found
            assert cause in found
            assert "✓ 1 of 2 pages: nothing that blocks" in lines
        lines = [event.get("line", "") for event in lab.run("tip", tip=3, on="user_app")]
        assert [line[:9] for line in lines if line] == ["✓ /: firs", "✗ /report"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".pyc"] in (
        ["shop.py"],
        ["__pycache__", "shop.py"],
        ["shop.py", "__pycache__"],
    )


@pytest.mark.processes
def test_a_button_makes_the_folder_of_build(tmp_path: Path) -> None:
    with running([sys.executable, str(APP)], cwd=tmp_path, ready="The lab:", timeout=60) as process:
        lab = RunningLab(re.findall(r"http://[\d.:]+", process.output())[0], "")
        before = lab.get("/build").text
        assert "Make the folder" in before
        assert " disabled" in before
        (tmp_path / "offload-project").write_text("in the way")
        assert lab.post("/build/folder", {}).status == 409
        (tmp_path / "offload-project").unlink()
        assert lab.post("/build/folder", {}).status == 303
        assert (tmp_path / "offload-project" / "app.py").exists()
        after = lab.get("/build").text
        assert str(tmp_path / "offload-project") in after
        assert " disabled" not in after


# --- its end -----------------------------------------------------------------------------------


@pytest.mark.processes
def test_even_a_killed_lab_leaves_no_process_behind(tmp_path: Path) -> None:
    """The web process ends with the lab, and its worker with it. Only the folder is left."""
    command = [sys.executable, str(APP)]
    environ = {"TMPDIR": str(tmp_path)}
    with running(command, env=environ, ready="The lab:", timeout=60) as process:
        family = [member.pid for member in descendants(process.pid)]
        assert len(family) >= 3  # the web process, its worker, the worker's child
        support.kill9(process.pid)
        wait_until(lambda: not any(map(alive, family)), 20, "the sample app and its worker to end")


@pytest.mark.processes
def test_a_lab_that_is_asked_to_stop_removes_its_files() -> None:
    with running([sys.executable, str(APP)], ready="The lab:", timeout=60) as process:
        web_process, *_ = descendants(process.pid)  # its worker comes after it
        environ = Path(f"/proc/{web_process.pid}/environ")
        if not environ.exists():
            support.not_promised("there is no /proc to read the folder's name from")
        variables = dict(
            pair.split("=", 1) for pair in environ.read_text().split("\0") if "=" in pair
        )
        folder = Path(variables["LAB_FOLDER"])
        assert (folder / "offload.sqlite3").exists()
        assert process.stop() == 0
        assert not folder.exists()
