"""The lab's mail server: real SMTP, slow, and it keeps what it receives."""

import smtplib
import socket
import time
from email.message import EmailMessage

import pytest

from flask_offload_lab.mailserver import PROMPT, MailServer, Pace


def welcome(recipient: str = "ada@example.org", text: str = "Welcome.") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "site@example.org"
    message["To"] = recipient
    message["Subject"] = "Grüße"
    message["Message-ID"] = f"<{recipient}>"
    message.set_content(text)
    return message


def send(server: MailServer, *messages: EmailMessage) -> None:
    with smtplib.SMTP(server.host, server.port, timeout=10) as client:
        for message in messages:
            client.send_message(message)


def test_keeps_what_it_receives() -> None:
    with MailServer(PROMPT) as server:
        send(server, welcome(text="Hello,\n.hidden dot\nÆthel"), welcome("bob@example.org"))
        first, second = server.mails
    assert (first.recipient, first.subject) == ("ada@example.org", "Grüße")
    assert first.message["Message-ID"] == "<ada@example.org>"
    assert first.text == "Hello,\n.hidden dot\nÆthel\n"
    assert second.recipient == "bob@example.org"


def test_a_repeated_mail_arrives_again_unless_the_server_knows_its_id() -> None:
    unnamed = welcome()
    del unnamed["Message-ID"]
    mails = (welcome(), welcome(), welcome("bob@example.org"), unnamed, unnamed)
    with MailServer(PROMPT) as forgetful, MailServer(PROMPT, knows_ids=True) as server:
        send(forgetful, *mails)
        send(server, *mails)
    assert (len(forgetful.mails), forgetful.dropped) == (5, [])
    assert [mail.recipient[:3] for mail in server.mails] == ["ada", "bob", "ada", "ada"]
    assert [mail.recipient for mail in server.dropped] == ["ada@example.org"]


def test_is_as_slow_as_its_pace() -> None:
    pace = Pace(greeting=0.05, recipient=0.05, content=(0.1, 0.1))
    with MailServer(pace) as server:
        began = time.monotonic()
        send(server, welcome())
        assert time.monotonic() - began >= pace.shortest
    assert pace.shortest == pytest.approx(0.2)


def test_serves_many_at_once() -> None:
    """A slow mail server is slow for each sender, not for all together."""
    with MailServer(Pace(greeting=0.2, recipient=0, content=(0, 0))) as server:
        sockets = [socket.create_connection((server.host, server.port)) for _ in range(20)]
        files = [each.makefile("rwb", buffering=0) for each in sockets]
        began = time.monotonic()
        for file in files:
            file.readline()
            file.write(b"EHLO lab\r\n")
        assert all(file.readline().startswith(b"250") for file in files)
        assert time.monotonic() - began < 20 * 0.2
        for file, each in zip(files, sockets, strict=True):
            file.close()
            each.close()


def test_wait_for_mails() -> None:
    with MailServer(PROMPT) as server:
        assert not server.wait_for(lambda mails: len(mails) == 1, timeout=0.01)
        send(server, welcome())
        assert server.wait_for(lambda mails: len(mails) == 1, timeout=5)


def test_stops_in_the_middle_of_a_mail() -> None:
    with MailServer(Pace(greeting=60)) as server:
        client = socket.create_connection((server.host, server.port))
        client.sendall(b"EHLO lab\r\n")
        began = time.monotonic()
    assert time.monotonic() - began < 30
    client.close()


def test_a_taken_port_is_an_error() -> None:
    with (
        MailServer(PROMPT) as server,
        pytest.raises(OSError, match="in use"),
        MailServer(port=server.port),
    ):
        pass
