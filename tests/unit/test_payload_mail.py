"""Flask-Mail's messages travel whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flask import Flask
from flask_mail import Attachment, Mail, Message

from flask_offload.errors import PayloadError
from flask_offload.payload.calls import Codecs, decode_value, encode_value

CODECS = Codecs()
mail = Mail()


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config["MAIL_DEFAULT_SENDER"] = ("Shop", "shop@example.org")
    app.config["TESTING"] = True
    mail.init_app(app)
    return app


def full_message() -> Message:
    message = Message(
        "Grüße",
        recipients=["a@example.org", ("Bé", "b@example.org")],
        body="text",
        html="<b>text</b>",
        alts={"calendar": "BEGIN:VCALENDAR"},
        cc=["c@example.org"],
        bcc=["d@example.org"],
        reply_to=("R", "r@example.org"),
        date=1_700_000_000.5,
        charset="utf-8",
        extra_headers={"X-Campaign": "7", "$": "['bytes']"},
        mail_options=["BODY=8BITMIME"],
        rcpt_options=["NOTIFY=NEVER"],
        attachments=[Attachment("a.bin", "application/x-thing", b"\x00\xff", headers={"X-A": "b"})],
    )
    message.attach("ü.txt", "text/plain", "text", disposition="inline")
    return message


def test_a_message_is_the_same_to_the_last_byte(app: Flask) -> None:
    with app.app_context():
        message = full_message()
        data = encode_value(message, CODECS, what="it", limit=100_000)
        back = decode_value(data, CODECS)
        assert type(back) is Message
        for name, value in vars(message).items():
            if name != "attachments":
                assert getattr(back, name) == value
        assert [type(item) for item in back.attachments] == [Attachment, Attachment]
        assert [vars(item) for item in back.attachments] == [
            vars(item) for item in message.attachments
        ]
        assert back.msgId == message.msgId
        boundary = "===="
        assert strip_boundaries(back.as_string(), boundary) == strip_boundaries(
            message.as_string(), boundary
        )


def strip_boundaries(text: str, mark: str) -> list[str]:
    """The lines of a message without the random boundaries between its parts."""
    return [line for line in text.splitlines() if mark not in line]


def test_a_message_can_be_sent_after_the_journey(app: Flask) -> None:
    with app.app_context():
        data = encode_value(full_message(), CODECS, what="it", limit=100_000)
    with app.app_context():
        with mail.record_messages() as outbox:
            mail.send(decode_value(data, CODECS))
        assert [message.subject for message in outbox] == ["Grüße"]


class OwnMessage(Message):
    pass


def test_a_message_of_ones_own_class_needs_a_codec(app: Flask) -> None:
    with app.app_context():
        message = OwnMessage("s", ["a@example.org"])
    with pytest.raises(PayloadError, match="OwnMessage, which can't be encoded"):
        encode_value(message, CODECS, what="it", limit=1000)


def test_what_lies_in_a_message_is_checked_too(app: Flask) -> None:
    with app.app_context():
        message = full_message()
    message.attachments[0].data = object()  # type: ignore[assignment]
    with pytest.raises(PayloadError, match=r"it\.attachments\[0\]\.data is of type object"):
        encode_value(message, CODECS, what="it", limit=100_000)


@pytest.mark.processes
def test_a_worker_without_flask_mail_says_so(app: Flask) -> None:
    with app.app_context():
        data = encode_value(Message("s", ["a@example.org"]), CODECS, what="it", limit=1000)
    program = (
        "import sys; from flask_offload.payload.calls import Codecs, decode_value\n"
        "try: decode_value(sys.argv[1], Codecs())\n"
        "except Exception as error: print(error)\n"
    )
    text = subprocess.check_output([sys.executable, "-c", program, data.decode()], text=True)
    assert text.strip().endswith("it holds a flask_mail.Message: import flask_mail in the app")
