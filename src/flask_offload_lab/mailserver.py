"""A mail server on loopback that is as slow as real ones are, and keeps what it receives."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as default_policy

from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT = 2_000
"""Mails kept at most; the oldest are dropped first."""


@dataclass(frozen=True)
class Pace:
    """How long the server waits at each stage, in seconds.

    The defaults stand for a mail server in the same region: a reverse look-up at the greeting, a
    check of the recipient, and a content scan before it takes responsibility for the mail. Real
    ones are often slower; RFC 5321, 4.5.3.2, has clients wait 5 minutes and more at each stage.
    """

    greeting: float = 0.15
    recipient: float = 0.15
    content: tuple[float, float] = (0.5, 0.8)

    @property
    def shortest(self) -> float:
        """The least time one mail can take."""
        return self.greeting + self.recipient + self.content[0]


PROMPT = Pace(0, 0, (0, 0))
"""A server that answers at once."""


@dataclass(frozen=True)
class Mail:
    """A mail that the server accepted: it answered 250, so it is responsible for it now."""

    recipient: str
    message: EmailMessage
    received_at: float
    """Unix seconds."""

    @property
    def subject(self) -> str:
        """The subject line."""
        return str(self.message["Subject"] or "")

    @property
    def text(self) -> str:
        """The plain text of the mail, "" if it has none."""
        body = self.message.get_body(("plain",))
        return "" if body is None else str(body.get_content()).replace("\r\n", "\n")


class _SmtpHandler:
    def __init__(self, pace: Pace, keep: Callable[[str, EmailMessage], None]) -> None:
        self._pace = pace
        self._keep = keep
        self._random = random.Random(7)

    async def handle_EHLO(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        await asyncio.sleep(self._pace.greeting)
        return responses

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self._pace.recipient)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        await asyncio.sleep(self._random.uniform(*self._pace.content))
        message = BytesParser(EmailMessage, policy=default_policy).parsebytes(content)
        for recipient in envelope.rcpt_tos:
            self._keep(recipient, message)
        return "250 OK: queued"


class MailServer:
    """An SMTP server in a thread of its own: `with MailServer() as server: …`.

    port: where it listens, on loopback; 0 takes a free one. Raises OSError if it is taken.
    knows_ids: drop a mail whose Message-ID its recipient has already got, and answer 250 again, as
    Cyrus does with `duplicatesuppression`.
    """

    def __init__(
        self,
        pace: Pace | None = None,
        port: int = 0,
        *,
        knows_ids: bool = False,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self._handler = _SmtpHandler(pace or Pace(), self._keep)
        self._mails: list[Mail] = []
        self._dropped: list[Mail] = []
        self._knows_ids = knows_ids
        self._known: dict[tuple[str, str], None] = {}
        self._arrived = threading.Condition()
        self._connections: weakref.WeakSet[SMTP] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab-mail", daemon=True)

    def __enter__(self) -> MailServer:
        self._thread.start()
        try:
            self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except OSError:
            self._end_loop()
            raise
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._end_loop()

    @property
    def mails(self) -> list[Mail]:
        """What has arrived, the latest last."""
        with self._arrived:
            return list(self._mails)

    @property
    def dropped(self) -> list[Mail]:
        """Repeated deliveries that reached no mailbox (`knows_ids`), the latest last."""
        with self._arrived:
            return list(self._dropped)

    def wait_for(self, enough: Callable[[list[Mail]], bool], timeout: float) -> bool:
        """Wait until `enough(mails)`; False when it does not hold after `timeout` seconds."""
        with self._arrived:
            return self._arrived.wait_for(lambda: enough(self._mails), timeout)

    def _keep(self, recipient: str, message: EmailMessage) -> None:
        mail = Mail(recipient, message, time.time())
        key = (recipient, str(message["Message-ID"] or ""))
        with self._arrived:
            mails = self._dropped if key in self._known else self._mails
            mails.append(mail)
            del mails[:-KEPT]
            if self._knows_ids and key[1]:
                self._known[key] = None
                if len(self._known) > KEPT:
                    del self._known[next(iter(self._known))]
            self._arrived.notify_all()

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._connection, self.host, self.port)

    def _connection(self) -> SMTP:
        connection = SMTP(self._handler, hostname="mail.lab", ident="the lab", loop=self._loop)
        self._connections.add(connection)
        return connection

    async def _stop(self) -> None:
        await asyncio.sleep(0.01)  # Server.close() forgets connections that are being accepted
        self._server.close()
        for connection in self._connections:
            if connection.transport is not None:
                connection.transport.close()
        sessions = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
