"""Mail of Flask-Mail and Flask-Mailman, sent by a task of this package: `Offload.send_mail`."""

from __future__ import annotations

import copy
import io
import random
import sys
from typing import Any

from flask import current_app
from werkzeug.datastructures import FileStorage

from .errors import PayloadError, UnsupportedByEngine
from .jobs.context import current_job
from .tasks.options import TaskOptions
from .tasks.retry import RetryPolicy, exponential

SEND_MAIL = "flask_offload.send_mail"

_waits = exponential(first=30, cap=3600)


def _backoff(error: BaseException, attempt: int) -> float | None:
    """Seconds until the next attempt; None: the mail server has refused this mail for good."""
    smtplib = sys.modules.get("smtplib")  # not imported here: web processes don't need it
    codes: list[int] = []
    if smtplib is not None and isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
    elif smtplib is not None and isinstance(error, smtplib.SMTPResponseException):
        is_login = isinstance(error, smtplib.SMTPAuthenticationError)  # can be set right meanwhile
        codes = [] if is_login else [error.smtp_code]
    if codes and min(codes) >= 500:
        return None
    return _waits.wait(attempt, random.uniform)


PATIENT = TaskOptions(retry=RetryPolicy(max_attempts=12, backoff=_backoff))
"""Twelve attempts take two to five hours."""


def packed(message: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A message as arguments of `send`: without its attachments, with a Message-ID that stays; and
    the attachments, their content as files. Raises PayloadError."""
    flask_mail, flask_mailman = map(sys.modules.get, ("flask_mail", "flask_mailman"))
    if flask_mail is not None and isinstance(message, flask_mail.Message):
        left = copy.copy(message)
        left.attachments, left.subject = [], str(message.subject)
        return left, [_packed(**vars(each)) for each in message.attachments]
    if flask_mailman is not None and isinstance(message, flask_mailman.EmailMessage):
        fields = {**vars(message), "subject": str(message.subject), "attachments": []}
        fields.pop("connection")
        headers = dict(message.extra_headers)
        if not any(name.lower() == "message-id" for name in headers):
            from email.utils import make_msgid  # only where it is needed

            headers["Message-ID"] = make_msgid(domain=str(flask_mailman.DNS_NAME))
        fields["extra_headers"] = headers
        is_multi = isinstance(message, flask_mailman.EmailMultiAlternatives)
        name = "EmailMultiAlternatives" if is_multi else "EmailMessage"
        if any(not isinstance(each, tuple) for each in message.attachments):
            raise PayloadError(
                "send_mail() takes attachments of a name, a content and a type: write"
                " message.attach(name, content, mimetype), without a MIMEBase"
            )
        files = [_packed(filename, kind, data) for filename, data, kind in message.attachments]
        return [name, fields], files
    raise PayloadError(
        "send_mail() takes a flask_mail.Message or a flask_mailman.EmailMessage, not"
        f" {type(message).__name__}"
    )


def _packed(
    filename: str | None, content_type: str | None, data: str | bytes, **more: Any
) -> dict[str, Any]:
    content = data.encode() if isinstance(data, str) else data
    return {
        "filename": filename,
        "content_type": content_type,
        "file": FileStorage(io.BytesIO(content), filename=filename or "attachment"),
        "is_text": isinstance(data, str),
        **more,
    }


def send(message: Any, attachments: list[dict[str, Any]]) -> None:
    """Send it, once as far as that can be known."""
    built = _built(message, [_unpacked(**each) for each in attachments])
    try:
        current_job.once("send", built)
    except UnsupportedByEngine:  # raised before it is sent
        built()


def _unpacked(file: FileStorage, is_text: bool, **fields: Any) -> dict[str, Any]:
    content = file.stream.read()
    return {**fields, "data": content.decode() if is_text else content}


def _built(message: Any, attachments: list[dict[str, Any]]) -> Any:
    """A function that sends the message."""
    if not isinstance(message, list):
        flask_mail: Any = sys.modules["flask_mail"]
        message.attachments = [flask_mail.Attachment(**each) for each in attachments]
        return lambda: current_app.extensions["mail"].send(message)
    flask_mailman = sys.modules.get("flask_mailman")
    if flask_mailman is None:
        raise PayloadError("the message is one of Flask-Mailman: import flask_mailman in the app")
    name, fields = message
    mail = getattr(flask_mailman, name)()
    vars(mail).update(fields)
    mail.attachments = [
        (each["filename"], each["data"], each["content_type"]) for each in attachments
    ]

    def deliver() -> None:
        try:
            mail.send()
        finally:
            if mail.connection is not None:  # which stays open when the server refuses
                mail.connection.close()

    return deliver
