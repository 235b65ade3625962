"""The album's own tests: no worker, no mail server, no waiting. Run them with `pytest`."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from album import create_app
from album.extensions import db, mail, offload
from album.files import SIZES, original, thumbnail
from album.tasks import make_thumbnails
from flask_offload import Job, JobStatus
from flask_offload.testing import assert_enqueued, drain, no_blocking


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(
        {
            "TESTING": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/album.sqlite3",
            "OFFLOAD_SQLITE_PATH": tmp_path / "jobs.sqlite3",
            "OFFLOAD_ENGINE": "sqlite",
            "ALBUM_FOLDER": tmp_path,
        }
    )
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def join(client: FlaskClient, address: str = "ann@example.com") -> TestResponse:
    return client.post("/members", data={"name": "Ann", "address": address})


def mails() -> list[Job]:
    return list(offload.jobs(task="flask_offload.send_mail"))


def upload(client: FlaskClient, data: bytes) -> TestResponse:
    join(client)
    return client.post("/members/1/photos", data={"photo": (io.BytesIO(data), "a.jpg")})


def photo(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(data, "JPEG")
    return data.getvalue()


def test_joining_does_not_wait_for_the_mail_server(client: FlaskClient) -> None:
    with no_blocking(max_ms=1000):
        assert join(client).status_code == 303


def test_a_new_member_gets_a_welcome(app: Flask, client: FlaskClient) -> None:
    join(client)
    assert len(mails()) == 1
    with mail.record_messages() as outbox:
        drain(app)
    (message,) = outbox
    assert message.recipients == ["ann@example.com"]
    assert "/members/1" in (message.body or "")


@pytest.mark.parametrize("address", ["ann", "ann@example.com\nBcc: all@example.com", ""])
def test_what_is_no_address_gets_no_mail(client: FlaskClient, address: str) -> None:
    assert join(client, address).status_code == 400
    assert not mails()


def test_no_member_is_welcomed_twice(client: FlaskClient) -> None:
    assert [join(client).status_code, join(client).status_code] == [303, 409]
    assert len(mails()) == 1


def test_a_photo_gets_thumbnails(app: Flask, client: FlaskClient) -> None:
    page = upload(client, photo(1500, 1000)).headers["Location"]
    job = assert_enqueued(make_thumbnails, 1)
    assert f'href="/offload/jobs/{job.id}"' in client.get(page).text  # <offload-job>
    drain(app)
    job.refresh()
    assert (job.status, job.progress and job.progress.done) == (JobStatus.SUCCESSFUL, len(SIZES))
    assert "1500 by 1000 pixels" in client.get(page).text
    for size in SIZES:
        with client.get(f"/photos/1/{size}.webp") as response:
            data = io.BytesIO(response.data)
        with Image.open(data) as small:
            assert small.size == (size, round(size * 2 / 3))


def test_what_is_no_photo_is_told(app: Flask, client: FlaskClient) -> None:
    page = upload(client, b"GIF89a and no more").headers["Location"]
    (_, job) = drain(app)
    assert job.status is JobStatus.CANCELLED
    assert job.error is not None
    assert job.error.message == "this file is no photo that we can read"
    assert job.error.message in client.get(page).text
    assert not thumbnail(1, SIZES[0]).exists()


def test_making_thumbnails_again_does_no_harm(app: Flask, client: FlaskClient) -> None:
    """As after a crash: a job runs at least once."""
    upload(client, photo(300, 300))
    make_thumbnails.enqueue(1)
    jobs = drain(app)
    assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}


def test_old_originals_go_at_three_in_the_night(app: Flask, client: FlaskClient) -> None:
    upload(client, photo(300, 300))
    drain(app)
    young = original(2)
    young.touch()
    month_ago = time.time() - 31 * 24 * 3600
    os.utime(original(1), (month_ago, month_ago))
    (job,) = drain(app, until=timedelta(days=1))
    assert re.fullmatch(r".* 03:00:\d\d\..*", f"{job.started_at:%Y-%m-%d %H:%M:%S.%f}")
    assert (job.return_value, original(1).exists(), young.exists()) == (1, False, True)
    assert thumbnail(1, SIZES[0]).exists()


def test_the_commands_say_what_they_did(app: Flask) -> None:
    runner = app.test_cli_runner()
    assert "tables" in runner.invoke(args=["init-db"]).output
    assert "will do it" in runner.invoke(args=["clean-up"]).output
    (job,) = drain(app)
    assert job.return_value == 0
