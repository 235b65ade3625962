"""`offload.send_mail`: real messages of Flask-Mail and Flask-Mailman over real SMTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from email.message import Message as Received
from pathlib import Path
from typing import Any

import flask_mail
import flask_mailman  # type: ignore[import-untyped]
import pytest
from aiosmtpd.controller import Controller

from engine_apps import EngineApp
from flask_offload import JobStatus, PayloadError
from flask_offload.testing import drain
from support import free_port


class Inbox:
    """A mail server's handler, with the answers that it gives first."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.tried: list[Received] = []
        self.mails: list[Received] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content)
        self.tried.append(mail)
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            self.mails.append(mail)
        return answer


@contextmanager
def serving(inbox: Inbox) -> Iterator[int]:
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop(no_assert=True)


@pytest.fixture(params=["Flask-Mail", "Flask-Mailman"])
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@contextmanager
def shop(folder: Path, library: str, port: int, **config: Any) -> Iterator[EngineApp]:
    site = EngineApp(
        folder,
        "sqlite",
        MAIL_SERVER="127.0.0.1",
        MAIL_PORT=port,
        MAIL_DEFAULT_SENDER="shop@example.org",
        MAIL_SUPPRESS_SEND=False,
        MAIL_BACKEND="smtp",
        **config,
    )
    try:
        (flask_mail if library == "Flask-Mail" else flask_mailman).Mail(site.app)
        yield site
    finally:
        site.close()


def message(library: str, *attachments: tuple[str, str, bytes | str]) -> Any:
    if library == "Flask-Mail":
        made = flask_mail.Message("Grüße", ["ann@example.org"], "text", html="<b>text</b>")
        for name, kind, content in attachments:
            made.attach(name, kind, content)
        return made
    other = flask_mailman.EmailMultiAlternatives("Grüße", "text", to=["ann@example.org"])
    other.attach_alternative("<b>text</b>", "text/html")
    for name, kind, content in attachments:
        other.attach(name, content, kind)
    return other


def parts(mail: Received) -> dict[str, Any]:
    """The content of a mail by its type or file name."""
    return {
        part.get_filename() or part.get_content_type(): part.get_payload(decode=True)
        for part in mail.walk()
        if not part.is_multipart()
    }


def test_a_mail_arrives_whole(tmp_path: Path, library: str) -> None:
    inbox = Inbox()
    with serving(inbox) as port, shop(tmp_path, library, port, OFFLOAD_MAX_PAYLOAD=20_000) as site:
        large = bytes(range(256)) * 4_000
        files = (("a.bin", "application/x-thing", large), ("b.txt", "text/plain", "text"))
        job = site.offload.send_mail(
            message(library, *files),
            queue_name="mail",
        )
        assert job.queue_name == "mail"
        site.drain()
        assert job.refresh().status is JobStatus.SUCCESSFUL, job.error
    (mail,) = inbox.mails
    found = parts(mail)
    assert found["a.bin"] == large, "beyond the limit of the payload: it is a file"
    assert found["b.txt"].decode() == "text"
    assert found["text/html"].strip() == b"<b>text</b>"
    assert mail["To"] == "ann@example.org"


def test_the_server_has_a_bad_day(tmp_path: Path, library: str) -> None:
    inbox = Inbox("451 try later", "421 shutting down", "451 try later")
    with serving(inbox) as port, shop(tmp_path, library, port) as site:
        job = site.offload.send_mail(message(library))
        site.drain()
        assert job.refresh().status is JobStatus.SUCCESSFUL
    assert len(job.attempts) == 4
    assert len(inbox.mails) == 1
    assert len({mail["Message-ID"] for mail in inbox.tried}) == 1


def test_the_server_is_down_for_an_hour(tmp_path: Path, library: str) -> None:
    with shop(tmp_path, library, free_port()) as site:
        job = site.offload.send_mail(message(library))
        drain(site.app, until=timedelta(minutes=30))
        assert job.refresh().status is JobStatus.READY, "it is still tried"


def test_a_mail_that_is_refused_for_good_fails_at_once(tmp_path: Path, library: str) -> None:
    inbox = Inbox("554 no spam here")
    with serving(inbox) as port, shop(tmp_path, library, port) as site:
        job = site.offload.send_mail(message(library))
        site.drain()
        assert job.refresh().status is JobStatus.FAILED
        assert len(job.attempts) == 1


def test_what_is_no_message_is_refused(tmp_path: Path) -> None:
    with (
        shop(tmp_path, "Flask-Mail", 1) as site,
        pytest.raises(PayloadError, match=r"send_mail\(\) takes a flask_mail.Message or"),
    ):
        site.offload.send_mail("hello")
