"""The example app and the lab run unchanged on every engine, by configuration alone."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from redis import Redis as Client

from album.files import SIZES
from album_server import album_server, celery_settings
from brokers import Server
from celery_fixtures import rabbit, redis  # noqa: F401 (fixtures)
from flask_offload_lab import demo
from flask_offload_lab.photo import SAMPLE
from flask_offload_lab.processes import descendants
from flask_offload_lab.site import create_lab
from flask_offload_lab.site.lab import Lab
from flask_offload_lab.testbed import LabTestbed
from lab_app import QUICK
from lab_support import APP, RunningLab
from postgres_server import serving_postgres
from proc import alive
from support import http_get, kill9, running, wait_until

ORIGIN = "http://127.0.0.1:1"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

PATIENCE = 60.0
"""Seconds for a worker that has yet to start; alone on its machine it takes three."""


@pytest.mark.parametrize("engine", ["sqlite", "inline"])
def test_the_album_without_a_broker(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_the_album(tmp_path, {"FLASK_OFFLOAD_ENGINE": engine}, monkeypatch)


def test_the_album_on_postgresql(
    tmp_path: Path, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_postgres() as server:
        settings = {"FLASK_OFFLOAD_ENGINE": "postgres", "FLASK_OFFLOAD_POSTGRES_URL": server.url}
        use_the_album(tmp_path, settings, monkeypatch)


@pytest.mark.parametrize("broker", ["redis", "rabbit"])
def test_the_album_on_celery(
    broker: str,
    redis: Server,  # noqa: F811
    rabbit: Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = {"redis": redis, "rabbit": rabbit}
    use_the_album(tmp_path, celery_settings(redis, servers[broker]), monkeypatch)


def use(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set environment variables that choose an engine; nothing else differs."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def use_the_album(
    tmp_path: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Join, send a photo, clean up; all of it as a visitor and an operator do it."""
    with album_server(tmp_path, settings, monkeypatch) as site:
        joined = site.post("/members", {"name": "Ann", "address": "ann@visitors.example"})
        assert joined.status == 303, site.log
        sent = site.send_photo("/members/1/photos", SAMPLE.read_bytes())
        assert sent.status == 303, site.log

        assert site.mail.wait_for(lambda mails: len(mails) == 1, PATIENCE)
        (mail,) = site.mail.mails
        assert (mail.recipient, mail.subject) == ("ann@visitors.example", "Welcome to the album")

        photo = str(sent.headers["Location"])
        wait_until(
            lambda: " pixels." in site.get(photo).text, PATIENCE, lambda: site.get(photo).text
        )
        for size in SIZES:
            with Image.open(io.BytesIO(site.get(f"{photo}/{size}.webp").body)) as image:
                assert max(image.size) == min(size, max(_sample_size()))
        job = wait_until(lambda: (job := site.job_of(1))["status"] == "SUCCESSFUL" and job, 10)
        assert (job["progress"]["done"], job["progress"]["total"]) == (len(SIZES), len(SIZES))

        original = tmp_path / "originals" / "1"
        month_ago = time.time() - 31 * 24 * 3600
        os.utime(original, (month_ago, month_ago))
        assert "will do it" in site.command("clean-up")
        wait_until(lambda: not original.exists(), PATIENCE)

        if site.engine.flags.schedules:
            (schedule,) = json.loads(site.command("offload", "schedules", "--json"))
            assert schedule["task"] == "album.tasks.clean_up"
            assert "T03:00:00" in schedule["next_run"]
    assert len(site.mail.mails) == 1


def _sample_size() -> tuple[int, int]:
    with Image.open(SAMPLE) as image:
        return image.size


# --- the lab -----------------------------------------------------------------------------------


def test_the_lab_on_redis(
    redis: Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its pages, its kill, and that its worker ends with it, however it ends."""
    use(celery_settings(redis, redis), monkeypatch)
    with running([sys.executable, str(APP)], ready="The lab:", timeout=60) as process:
        found = re.search(r"The lab: (http://[\d.:]+)/", process.output())
        assert found
        lab = RunningLab(found[1], "")
        result = lab.run("kill", pattern="background")[-1]
        assert (result["answered"], result["done"], result["lost"]) == (4, 4, 0)
        assert result["killed"] >= 3  # the web process, the worker, and one of its pool's processes
        assert result["recovered"] is not None
        deep = lab.get("/deep").text
        assert 'data-kill="background"' in deep
        assert not re.search('data-run="(notifier|lock)"', deep)
        with pytest.raises(AssertionError, match="own_worker"):
            lab.run("notifier")
        family = [member.pid for member in descendants(process.pid)]
        assert len(family) >= 3
        kill9(process.pid)
        wait_until(lambda: not any(map(alive, family)), 20, "the sample app and its worker to end")


def test_the_table_of_the_lab_on_rabbit(
    redis: Server,  # noqa: F811
    rabbit: Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(celery_settings(redis, rabbit), monkeypatch)
    monkeypatch.setattr(demo, "REQUESTS", {"background": 2})
    monkeypatch.setattr(demo, "MEMBERS", {"background": 2})
    monkeypatch.setattr(demo, "SECONDS", 0.6)
    monkeypatch.setattr(demo, "CLIENTS", 1)
    monkeypatch.setattr(demo, "PACE", 0.5)
    with LabTestbed(ORIGIN, QUICK) as testbed:
        table = demo.measure(testbed)
        log = (testbed.sample_app.settings.folder / "sample-app.log").read_text()
    assert (table.engine, table.moves, table.durable) == ("celery", True, True)
    (row,) = table.rows
    assert row.route.p50_ms is not None
    assert row.work_ms is not None
    assert row.route.p50_ms < row.work_ms, log
    assert (row.crash_test.answered, row.crash_test.done) == (2, 2), log
    assert row.crash_test.recovered_ms is not None
    records = testbed.engine.environ["FLASK_OFFLOAD_CELERY_PREFIX"]
    with Client.from_url(redis.url) as client:
        assert list(client.scan_iter(f"{records}*")) == [], "nothing of it is left"


def test_the_lab_on_an_engine_without_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it can't show is hidden, and said."""
    use({"FLASK_OFFLOAD_ENGINE": "inline"}, monkeypatch)
    with LabTestbed(ORIGIN, QUICK) as testbed:
        site = create_lab(Lab(testbed), ORIGIN).test_client()
        deep = site.get("/deep", base_url=ORIGIN).text
        assert re.findall('data-(?:run|kill)="(.*?)"', deep) == ["thread", "backlog"]
        assert "The inline engine runs each job inside of <code>enqueue</code>" in deep
        headers = {"Origin": ORIGIN}
        for name, params in {"gil": {}, "kill": {"pattern": "background"}}.items():
            answer = site.post(f"/run/{name}", json=params, headers=headers, base_url=ORIGIN)
            assert (answer.status_code, "flag" in answer.text) == (400, True)
        assert http_get(f"{testbed.sample_app.origin}/background?member=ann").status == 200
        assert testbed.mails_to(["ann"])["ann"] == 1, "the visitor has waited for it"
