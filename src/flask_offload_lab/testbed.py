"""What everything in the lab is measured on: mail server, sample app, and their journal."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from .engine import SampleAppEngine
from .errors import WorkNotDone
from .journal import Journal, JournalReader
from .mailserver import Mail, MailServer, Pace
from .sample_app_server import SampleAppServer

POLL = 0.01
"""Seconds between two looks at the journal."""

WARM_UP_TIMEOUT = 60.0
"""Seconds that the first job may take; the worker has to start first."""


class LabTestbed:
    """Use it in a `with` block. lab_origin: which site may frame the sample app's pages. pace: of
    the mail server. host: where the sample app listens.

    Experiments disturb one another, so each runs inside `with testbed.exclusive`.
    Raises WorkNotDone or ServerDown if the processes do not work, and what the engine raises that
    the environment chooses: ConfigError, EngineUnavailable.
    """

    mail: MailServer
    sample_app: SampleAppServer
    engine: SampleAppEngine

    def __init__(
        self,
        lab_origin: str,
        pace: Pace | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.exclusive = threading.Lock()
        self._lab_origin = lab_origin
        self._pace = pace
        self._host = host
        self._numbers = itertools.count(1)

    def __enter__(self) -> LabTestbed:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="offload-lab-", ignore_cleanup_errors=True)
            path = Path(stack.enter_context(folder))
            self.engine = SampleAppEngine(path)
            self.engine.check()
            stack.callback(self.engine.clear)
            self.mail = stack.enter_context(MailServer(self._pace, knows_ids=True))
            self.sample_app = SampleAppServer(
                path, self.mail.port, self._lab_origin, self.engine, self._host
            )
            stack.enter_context(self.sample_app)
            self._warm_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _warm_up(self) -> None:
        """One job, so that nothing measured later includes the start of the worker."""
        [name] = self.names("warm-up", 1)
        self.sample_app.get(f"/background?member={name}")
        self.until(
            lambda: self.mails_to([name])[name] > 0 or self.sample_app.worker_has_ended,
            WARM_UP_TIMEOUT,
        )
        if self.sample_app.worker_has_ended:
            raise self.sample_app.error("The worker did not start. The end of its log:")
        if not self.mails_to([name])[name]:
            raise WorkNotDone

    def names(self, prefix: str, count: int) -> list[str]:
        """Names of new members."""
        return [f"{prefix}-{next(self._numbers)}" for _ in range(count)]

    def journal(self) -> JournalReader:
        """The journal from now on."""
        return JournalReader(Journal(self.sample_app.settings.journal))

    def mails_to(self, names: Collection[str]) -> Counter[str]:
        """How many mails each of these members got."""
        return _count(self.mail.mails, names)

    def dropped_mails_to(self, names: Collection[str]) -> Counter[str]:
        """How many repeated deliveries to each of them the mail server has dropped."""
        return _count(self.mail.dropped, names)

    @staticmethod
    def until(condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for the condition; False when it still does not hold after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True


def _count(mails: list[Mail], names: Collection[str]) -> Counter[str]:
    recipients = (mail.recipient.partition("@")[0] for mail in mails)
    return Counter(name for name in recipients if name in names)
