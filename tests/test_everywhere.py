"""The example app runs unchanged on every engine, by configuration alone."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from album.files import SIZES
from album_site import album_site, celery_settings
from brokers import Server
from celery_fixtures import rabbit, redis  # noqa: F401 (fixtures)
from flask_offload.lab.photo import SAMPLE
from support import wait_until


@pytest.mark.parametrize("engine", ["sqlite", "inline"])
def test_the_album_without_a_broker(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_the_album(tmp_path, {"FLASK_OFFLOAD_ENGINE": engine}, monkeypatch)


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


def use_the_album(
    tmp_path: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Join, send a photo, clean up; all of it as a visitor and an operator do it."""
    with album_site(tmp_path, settings, monkeypatch) as site:
        joined = site.post("/members", {"name": "Ann", "address": "ann@visitors.example"})
        assert joined.status == 303, site.log
        sent = site.send_photo("/members/1/photos", SAMPLE.read_bytes())
        assert sent.status == 303, site.log

        assert site.mail.wait_for(lambda mails: len(mails) == 1, 30)
        (mail,) = site.mail.mails
        assert (mail.recipient, mail.subject) == ("ann@visitors.example", "Welcome to the album")

        photo = str(sent.headers["Location"])
        wait_until(lambda: " pixels." in site.get(photo).text, 30, lambda: site.get(photo).text)
        for size in SIZES:
            with Image.open(io.BytesIO(site.get(f"{photo}/{size}.webp").body)) as image:
                assert max(image.size) == min(size, max(_sample_size()))
        job = wait_until(lambda: (job := site.job_of(1))["status"] == "SUCCESSFUL" and job, 10)
        assert (job["progress"]["done"], job["progress"]["total"]) == (len(SIZES), len(SIZES))

        original = tmp_path / "originals" / "1"
        month_ago = time.time() - 31 * 24 * 3600
        os.utime(original, (month_ago, month_ago))
        assert "will do it" in site.command("clean-up")
        wait_until(lambda: not original.exists(), 30)

        if site.engine.flags.schedules:
            (schedule,) = json.loads(site.command("offload", "schedules", "--json"))
            assert schedule["task"] == "album.tasks.clean_up"
            assert "T03:00:00" in schedule["next_run"]
    assert len(site.mail.mails) == 1


def _sample_size() -> tuple[int, int]:
    with Image.open(SAMPLE) as image:
        return image.size
