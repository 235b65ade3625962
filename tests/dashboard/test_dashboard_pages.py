"""What the pages show, and what their buttons do."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from dashboard_site import PREFIX, Shop, act, shop
from flask_offload import JobStatus, current_job
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.config import MASKED
from flask_offload.dashboard.charts import Times, percentile
from flask_offload.dashboard.masking import Masking
from flask_offload.engines.counter_row import BOUNDS
from flask_offload.testing import drain
from flask_offload.worker.settings import worker_settings
from small_site import small_site
from store_support import tick
from support import wait_until

JOB_LINK = re.compile(rf'href="{PREFIX}/jobs/([0-9a-f]{{44}})"')


@pytest.fixture(name="made")
def made_fixture(tmp_path: Path) -> Iterator[Shop]:
    with shop(tmp_path, DEBUG=True) as made:
        yield made


def text(made: Shop, path: str, **query: Any) -> str:
    response = made.client().get(PREFIX + path, query_string=query or None)
    assert response.status_code == 200, response.get_data(as_text=True)
    assert len(response.data) < 100_000
    return response.get_data(as_text=True)


def ids(html: str) -> list[str]:
    return list(dict.fromkeys(JOB_LINK.findall(html)))


def test_every_page_of_an_app_without_jobs(made: Shop) -> None:
    for path in ("/", "/jobs", "/failures", "/queues", "/schedules", "/workers", "/routes"):
        html = text(made, path)
        assert html.count("<h1") == 1
        assert "style=" not in html
        assert " on" + "click" not in html


def test_the_policy_lets_in_only_only_what_is_its_own(made: Shop) -> None:
    headers = made.client().get(f"{PREFIX}/").headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"


def test_secrets_are_masked_by_their_names(made: Shop) -> None:
    job = made.run(7, "sk-argument-1", note="for ada")
    html = text(made, f"/jobs/{job.id}")
    assert "for ada" in html
    assert "receipt" in html
    assert "sk-argument-1" not in html
    assert "sk-result-9" not in html


def test_the_log_and_the_checkpoint_of_a_job(made: Shop) -> None:
    def call(lines: int) -> None:
        for number in range(1, lines + 1):
            logging.getLogger("shop").warning('<b>%d</b> "quoted" \x1b[31m %s', number, "&" * 100)
        current_job.checkpoint({"row": 17, "token": "sk-cursor"})

    task = made.offload.task(name="shop.call")(call)
    html = text(made, f"/jobs/{made.run(2, task=task).id}")
    assert "&lt;b&gt;1&lt;/b&gt; &#34;quoted&#34; \\x1b[31m &amp;" in html
    assert "17" in html
    assert "sk-cursor" not in html
    assert "not shown" not in html
    html = text(made, f"/jobs/{made.run(500, task=task).id}")
    assert "earlier lines of attempt 1 are not shown" in html
    assert "&lt;b&gt;500&lt;/b&gt;" in html


def test_a_task_may_keep_its_arguments_to_itself(made: Shop) -> None:
    job = made.run("sk-user-2", task=made.login)
    html = text(made, f"/jobs/{job.id}")
    assert job.status is JobStatus.SUCCESSFUL
    assert "sk-user-2" not in html
    assert "does not show them" in html


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "user_password",
            "userPassword",
            "PASSWORD2",
            "passwd",
            "db_pwd",
            "passwords",
        ),
        *("token", "authToken", "csrf_tokens", "X-Api-Key", "apiKey", "apikey", "key", "keys"),
        *("client_secret", "secretValue", "Authorization", "auth", "Cookie", "sessionid", "pin"),
    ],
)
def test_names_that_are_masked(name: str) -> None:
    assert Masking(MASKED).hides(name)


@pytest.mark.parametrize(
    "name", ["author", "keyword", "name", "order", "pinned", "spinner", "keyboard", "amount"]
)
def test_names_that_are_not(name: str) -> None:
    assert not Masking(MASKED).hides(name)


def test_values_are_masked_at_any_depth() -> None:
    value = {"rows": [{"id": 1, "token": "x"}, {"headers": [["Cookie", "x"], ["Accept", "y"]]}]}
    assert Masking(MASKED).masked(value) == {
        "rows": [{"id": 1, "token": "••••••"}, {"headers": [["Cookie", "••••••"], ["Accept", "y"]]}]
    }


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Authorization", "value": "Bearer sk-1"},
        {"header": "X-Api-Key", "values": ["sk-1"]},
        {"field": "user_password", "old": "sk-1", "new": "sk-1"},
        {"key": "secret", "value": {"deep": "sk-1"}},
        {"$": ["tuple", ["Cookie", "sk-1"]]},
        ["login", "--token", "sk-1", "--verbose"],
        ["login", "--password=sk-1"],
        '{"a": [{"password": ["sk-1"]}]}',
        '[["token", "sk-1"]]',
        "postgresql://shop:sk-1@db.example/shop",
        "redis://:sk-1@db.example/0",
        "https://api.example/v1?page=2&access_token=sk-1&x=1",
        "Authorization: Basic sk-1",
        "DEBUG=1\nSECRET_KEY='sk-1 sk-1'\n",
        'pwd = "sk-1\\"sk-1"',
        [["rows", [{"url": "amqp://u:sk-1@host"}]]],
    ],
)
def test_a_secret_is_masked_however_it_is_named(value: Any) -> None:
    shown = json.dumps(Masking(MASKED).masked(value), ensure_ascii=False)
    assert "sk-1" not in shown
    assert "••••••" in shown


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ada", "value": "3"},
        ["resize", "--width", "300"],
        '{"a": [1, 2.5, null]}',
        "{no json",
        "https://shop.example:8080/a?b=c@d",
        "12:30 lunch, author: Ada",
    ],
)
def test_and_nothing_else_is(value: Any) -> None:
    assert Masking(MASKED).masked(value) == value


@pytest.mark.parametrize(
    "piece", ["a", "a=", "://", "x://a:", "ab='\\", '{"a":', "[", "ab \t", "-"]
)
def test_masking_takes_no_longer_for_odd_texts(piece: str) -> None:
    masking, took = Masking(MASKED), list[float]()
    for length in (5_000, 1_000_000):
        began = time.thread_time()
        masking.masked(piece * (length // len(piece)))
        took.append(time.thread_time() - began)
    assert took[1] < 50 * took[0] + 0.2


def test_the_words_can_be_chosen(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True, OFFLOAD_DASHBOARD_MASK=["note"]) as made:
        job = made.run(7, "tok", note="between us")
        html = text(made, f"/jobs/{job.id}")
        assert "between us" not in html
        assert "tok" in html


def test_pages_follow_each_other_without_gaps_while_jobs_come_and_go(made: Shop) -> None:
    with made.app.app_context():
        jobs = made.offload.enqueue_many([made.pay.call(n) for n in range(60)])
    seen: list[str] = []
    path, query = "/jobs", ""
    while True:
        html = text(made, f"{path}{query}")
        seen += ids(html)
        with made.app.app_context():
            made.pay.enqueue(999)  # would move the pages of an offset
        found = re.search(r'rel="next" href="[^?]*(\?[^"]*)"', html)
        if found is None:
            break
        query = found[1].replace("&amp;", "&")
    assert seen == [job.id for job in reversed(jobs)]


def test_filters_narrow_the_list(made: Shop) -> None:
    failed = [made.run(-n, note=f"letter {n}").id for n in (1, 2, 3)]
    good = made.run(5, note="100 % letter_5").id
    other = made.run("x", task=made.login).id
    assert ids(text(made, "/jobs")) == [other, good, *reversed(failed)]
    assert ids(text(made, "/jobs", status="FAILED")) == failed[::-1]
    assert ids(text(made, "/jobs", status="failed", error="ValueError")) == failed[::-1]
    assert ids(text(made, "/jobs", error="TypeError")) == []
    assert ids(text(made, "/jobs", queue="billing", status="SUCCESSFUL")) == [good]
    assert ids(text(made, "/jobs", task=made.login.name)) == [other]
    assert ids(text(made, "/jobs", text="LETTER 2")) == [failed[1]]
    assert ids(text(made, "/jobs", text="order -3 has")) == [failed[2]]
    assert ids(text(made, "/jobs", text="100 % letter_")) == [good]
    assert ids(text(made, "/jobs", text="letter_1")) == []
    assert ids(text(made, "/jobs", within="1h")) == [other, good, *reversed(failed)]
    assert ids(text(made, "/jobs", before="15m")) == []
    assert ids(text(made, "/jobs", status="nonsense", within="x")) != []


@pytest.mark.parametrize("after", ["", "zz", "-1", "f" * 100, "\0", "7fffffffffffffff"])
def test_a_wrong_place_in_the_list_is_no_error(made: Shop, after: str) -> None:
    made.run(1)
    text(made, "/jobs", after=after)


def test_odd_texts_are_no_error(made: Shop) -> None:
    made.run(1, note="<script>alert(1)</script>")
    for odd in ("\0", "%", "'; DROP TABLE jobs", "\\", "<script>", "x" * 3000, "\N{SNOWMAN}"):
        for name in ("task", "queue", "owner", "error", "text"):
            assert "<script>alert" not in text(made, "/jobs", **{name: odd})
    assert ids(text(made, "/jobs", text="<script>alert"))


ODD = "\x1b[31m\u202etxt\u2066 \x85 \x7f"


def test_characters_that_disguise_others_are_shown_as_escapes(made: Shop) -> None:
    def work(note: str) -> None:
        current_job.progress(1, 2, ODD)
        logging.getLogger("shop").warning(ODD)
        raise ValueError(ODD)

    job = made.run(ODD, task=made.offload.task(name="shop.odd")(work))
    for path in (f"/jobs/{job.id}", "/jobs", "/failures", "/", "/queues"):
        html = text(made, path)
        assert not re.search("[\x1b\x7f\x85\u202e\u2066]", html), path
        assert ("\\x1b[31m\\u202etxt\\u2066 \\x85 \\x7f" in html) is (path != "/queues")


def test_no_job_makes_its_page_long(made: Shop) -> None:
    def work(**options: str) -> None:
        for number in range(300):
            logging.getLogger("s" * 150).warning("line %d %s", number, "'" * 80)
        current_job.progress(1, 2, '"' * 9_000)
        current_job.checkpoint({"at": "'" * 9_000})
        raise ValueError("&" * 30_000)

    task = made.offload.task(name="shop.long", max_attempts=30, backoff=0)(work)
    job = made.run(task=task, **{f"option{number}": "'" * 6_000 for number in range(60)})
    html = text(made, f"/jobs/{job.id}")
    assert "earlier attempts are not shown" in html
    assert "more are not shown" in html
    assert "line 299" in html
    assert "line 200 " not in html
    for path in ("/", "/jobs", "/failures"):
        text(made, path)


def test_no_table_makes_its_page_long(made: Shop) -> None:
    names = [f"queue-{number:03}-{'q' * 50}" for number in range(170)]
    with made.app.app_context():
        for name in names:
            made.engine.pause(name)
    text(made, "/")
    seen: list[str] = []
    path: str | None = "/queues"
    while path is not None:
        html = text(made, path)
        seen += re.findall(r'name="name" value="([^"]*)"', html)
        found = re.search(r'rel="next" href="(\?from=\d+)"', html)
        path = f"/queues{found[1]}" if found else None
    assert [name for name in seen if name.startswith("queue")] == names
    for odd in ("-1", "x", "9" * 50, "500"):
        text(made, "/queues", **{"from": odd})


def test_one_long_run_is_no_longer_in_the_chart_than_it_was(made: Shop) -> None:
    times = [0] * (len(BOUNDS) + 1)
    times[-2] = 1
    for total in (BOUNDS[-2] * 1.01, BOUNDS[-1]):
        for part in (0.5, 0.95):
            shown = percentile(Times(times, total), part)
            assert shown is not None
            assert BOUNDS[-2] <= shown <= total
    assert percentile(Times([*times[:-2], 0, 1], BOUNDS[-1] * 3), 0.5) == BOUNDS[-1] * 2
    assert percentile(Times([0] * len(times), 0.0), 0.5) is None


def test_failures_are_grouped(made: Shop) -> None:
    for number in (1, 2, 3):
        made.run(-number)
    html = text(made, "/failures")
    assert re.search(r'ValueError</a>\s*<span class="soft cut">order -3 has no address', html)
    assert re.search(r'<td class="num">3</td>', html)


def test_a_failed_job_shows_its_attempt_and_runs_again(made: Shop) -> None:
    job = made.run(-1)
    html = text(made, f"/jobs/{job.id}")
    assert "ValueError" in html
    assert re.search(r"<details id=\"traceback-1\"><summary>Traceback</summary><pre", html)
    response = act(made.client(), f"/jobs/{job.id}", action="retry")
    assert response.location == f"{PREFIX}/jobs/{job.id}?done=retry"
    assert "back in its queue" in text(made, f"/jobs/{job.id}", done="retry")
    with made.app.app_context():
        assert job.refresh().status is JobStatus.READY
    assert act(made.client(), f"/jobs/{job.id}", action="cancel").status_code == 303
    with made.app.app_context():
        assert job.refresh().status is JobStatus.CANCELLED


def test_what_cannot_be_done_is_said(made: Shop) -> None:
    job = made.run(1)
    response = act(made.client(), f"/jobs/{job.id}", page="/queues", action="retry")
    assert response.status_code == 409
    assert b"SUCCESSFUL" in response.data
    response = act(made.client(), "/jobs/unknown", page="/queues", action="retry")
    assert response.status_code == 404
    assert b"No such job" in response.data
    for action in ("", "explode"):
        path = f"/jobs/{job.id}"
        assert act(made.client(), path, page="/queues", action=action).status_code == 400
    assert act(made.client(), "/queues", action="pause", name="no-such").status_code == 400


def test_queues_pause_and_resume(made: Shop) -> None:
    made.run(1)
    for action, is_paused in (("pause", True), ("resume", False)):
        assert act(made.client(), "/queues", action=action, name="billing").status_code == 303
        (queue,) = [queue for queue in made.engine.queues() if queue.name == "billing"]
        assert (queue.paused_at is not None) is is_paused


def test_a_view_as_a_job_shows_its_request_without_the_body(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True) as made:

        @made.app.post("/report")
        @made.offload.respond_async(always=True)
        def report() -> str:
            return "done"

        form = {"password": "sk-body-3"}
        location = made.client().post("/report?x=sk-query-4", data=form).headers["Location"]
        html = text(made, f"/jobs/{location.rpartition('/')[2]}")
        assert "POST /report" in html
        assert "sk-body-3" not in html
        assert "sk-query-4" not in html


def test_the_inline_engine_has_what_its_flags_allow(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True, OFFLOAD_ENGINE="inline") as made:
        with made.app.app_context():
            jobs = [made.pay.enqueue(number, note=f"n{number}") for number in (1, -2, 3)]
        assert ids(text(made, "/jobs")) == [job.id for job in reversed(jobs)]
        assert ids(text(made, "/jobs", status="FAILED")) == [jobs[1].id]
        assert ids(text(made, "/jobs", text="N3")) == [jobs[2].id]
        for path in ("/", "/failures", "/queues", "/workers", "/routes", f"/jobs/{jobs[1].id}"):
            html = text(made, path)
            assert ">Schedules</a>" not in html
            assert "Pause" not in html
        assert act(made.client(), f"/jobs/{jobs[1].id}", action="retry").status_code == 303


def test_a_bulk_action_asks_first_and_changes_what_matches(made: Shop) -> None:
    failed = [made.run(-number, note=f"batch {number % 2}").id for number in range(1, 7)]
    good = made.run(1).id
    query = {"action": "retry", "status": "FAILED", "text": "batch 1"}
    html = text(made, "/bulk", **query)
    assert "3 jobs" in html
    assert "Run again 3 jobs" in html
    with made.app.app_context():
        assert made.engine.count()[JobStatus.FAILED] == 6
    path = "/bulk?action=retry&status=FAILED&text=batch+1"
    response = act(made.client(), "/bulk", page=path, **query)
    assert "3 jobs are" in response.get_data(as_text=True)
    with made.app.app_context():
        statuses = [made.offload.get_job(job_id).status for job_id in [*failed, good]]
    assert statuses.count(JobStatus.READY) == 3
    assert statuses[-1] is JobStatus.SUCCESSFUL
    assert "No job matches" in text(made, "/bulk", **query)


def test_a_bulk_action_goes_on_in_bites_and_meets_no_job_twice(
    made: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_offload.dashboard.bulk.BITE", 0.0)
    monkeypatch.setattr("flask_offload.dashboard.bulk.BITE_JOBS", 2)
    for number in range(1, 6):
        made.run(-number)
    client, page, form = made.client(), "/bulk?action=retry&status=FAILED", {"status": "FAILED"}
    after, seen = "", list[int]()
    while True:
        form |= {"action": "retry", "after": after, "total": "5", "changed": str(sum(seen))}
        html = act(client, "/bulk", page=page, **form).get_data(as_text=True)
        with made.app.app_context():
            seen.append(len(drain(made.app)))  # they fail again at once
        found = re.search(r'name="after" value="(\w+)"', html)
        if found is None:
            break
        assert "data-continue" in html
        after = found[1]
    assert seen == [2, 2, 1]
    assert "5 jobs are" in html


def test_jobs_that_have_ended_are_discarded(made: Shop) -> None:
    failed = [made.run(-number).id for number in (1, 2, 3)]
    good = made.run(1).id
    query = {"action": "discard", "status": "FAILED", "task": made.pay.name}
    assert "be undone" in text(made, "/bulk", **query)
    path = f"/bulk?action=discard&status=FAILED&task={made.pay.name}"
    html = act(made.client(), "/bulk", page=path, **query).get_data(as_text=True)
    assert "3 jobs are</strong> discarded" in html
    assert ids(text(made, "/jobs")) == [good]
    assert made.client().get(f"{PREFIX}/jobs/{failed[0]}").status_code == 404
    response = act(made.client(), f"/jobs/{good}", action="discard")
    assert response.location == f"{PREFIX}/jobs?done=discard"
    assert "nothing is kept of it" in text(made, "/jobs", done="discard")
    with made.app.app_context():
        waits = made.pay.enqueue(1)
    refused = act(made.client(), f"/jobs/{waits.id}", action="discard")
    assert refused.status_code == 409
    assert b"cancel it first" in refused.data


def test_schedules_are_disabled_enabled_and_run(made: Shop) -> None:
    (name,) = made.offload.schedules
    assert ">Run now</button>" in text(made, "/schedules")  # though no worker has seen it
    for action, shown in (("disable", ">disabled<"), ("enable", ">never<")):
        assert act(made.client(), "/schedules", action=action, name=name).status_code == 303
        assert shown in text(made, "/schedules", done=action)
        assert (">Enable</button>" in text(made, "/schedules")) is (action == "disable")
    assert act(made.client(), "/schedules", action="run", name=name).status_code == 303
    with made.app.app_context():
        assert [job.task for job in drain(made.app)] == [made.sweep.name]
    for form in ({"action": "disable", "name": "unknown"}, {"action": "explode", "name": name}):
        assert act(made.client(), "/schedules", **form).status_code == 400


def test_a_job_leads_to_its_schedule_and_to_jobs_that_failed_like_it(made: Shop) -> None:
    assert isinstance(made.engine, SqliteEngine)
    with made.app.app_context():
        (spec,) = worker_settings(made.offload.state_of(made.app)).schedules
        spec.name = "at night, twice"
        for days in (0, 2):
            tick(made.engine, spec, made.engine.clock() + days * 86_400)
    (job_id,) = ids(text(made, "/jobs"))
    (target,) = re.findall(
        f'href="{PREFIX}/schedules#([^"]+)">at night, twice<', text(made, f"/jobs/{job_id}")
    )
    assert f'<tr id="{target}">' in text(made, "/schedules")
    failed, other = made.run(-1), made.run(-2)
    (link,) = re.findall(
        r'href="([^"]+)">Jobs that failed like this', text(made, f"/jobs/{failed.id}")
    )
    found = made.client().get(unescape(link)).get_data(as_text=True)
    assert ids(found) == [other.id, failed.id]
    assert "#schedule-" not in text(made, f"/jobs/{failed.id}")


@pytest.mark.parametrize("form", [{}, {"action": "retry"}, {"action": "explode"}])
def test_a_bulk_action_needs_a_status_that_fits(made: Shop, form: dict[str, str]) -> None:
    made.run(-1)
    assert made.client().get(f"{PREFIX}/bulk", query_string=form or None).status_code == 400
    form = {**form, "status": "SUCCESSFUL"}
    assert act(made.client(), "/bulk", page="/queues", **form).status_code == 400


SOURCE = """
from flask import Flask
from flask_offload import Offload
app = Flask("shop")
offload = Offload(app)
"""


@pytest.mark.processes
def test_a_worker_is_asked_to_stop(tmp_path: Path) -> None:
    with small_site(tmp_path, SOURCE) as site:
        site.app.debug = True
        client = site.app.test_client()
        with site.worker() as process:
            wait_until(site.offload.state_of(site.app).engine.workers, 20, "the worker is alive")
            html = client.get(f"{PREFIX}/workers").get_data(as_text=True)
            (name,) = re.findall(r'name="name" value="([^"]+)"', html)
            wrong = act(client, "/workers", action="stop", name="unknown")
            assert wrong.status_code == 400
            assert act(client, "/workers", action="stop", name=name).status_code == 303
            assert process.wait() == 0
        assert b"No worker is alive" in client.get(f"{PREFIX}/workers").data


def test_a_search_finds_nothing_that_is_hidden(made: Shop) -> None:
    job = made.run(7, "sk-argument-1", note="for Ada")
    made.run("sk-user-2", task=made.login)
    assert ids(text(made, "/jobs", text="FOR ADA")) == [job.id]
    assert ids(text(made, "/jobs", text='"for ada"')) == [job.id]
    for hidden in ("sk-arg", "sk-argument-1", "sk-user", "sk-"):
        assert ids(text(made, "/jobs", text=hidden)) == []
