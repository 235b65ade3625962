"""The set-up on which everything in the lab is measured: mail server, club, and their journal."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

from .engine import ClubEngine
from .errors import BenchError
from .journal import Journal, Note, Reader
from .mailserver import MailServer, Pace
from .sample_app_server import ClubServer

LOOK = 0.01
"""Seconds between two looks at the journal."""

WARM_UP = 60.0
"""Seconds that the first job may take; the worker has to start first."""

WORKING_ROUTES = ("/sync", "/thread", "/background")


class Watch:
    """The notes in the journal since it was made."""

    def __init__(self, journal: Journal) -> None:
        self._reader = Reader(journal)
        self._notes: list[Note] = []

    @property
    def notes(self) -> list[Note]:
        """All of them so far, in order."""
        self._notes += self._reader.new()
        return list(self._notes)

    def count(self, kind: str, subjects: Collection[str] | None = None) -> int:
        """How many notes of this kind there are, about these subjects if given."""
        return sum(
            note.kind == kind and (subjects is None or note.subject in subjects)
            for note in self.notes
        )

    def durations(self, what: str) -> list[float]:
        """Milliseconds of every span of this kind that has ended."""
        begun: dict[str, float] = {}
        took = []
        for note in self.notes:
            if note.kind == f"{what}-begin":
                begun[note.subject] = note.at
            elif note.kind == f"{what}-end" and note.subject in begun:
                took.append((note.at - begun.pop(note.subject)) * 1000)
        return took

    def is_quiet(self) -> bool:
        """Whether all the work for which somebody came has been done."""
        asked = sum(
            note.kind == "request-begin" and note.subject.startswith(WORKING_ROUTES)
            for note in self.notes
        )
        return self.count("work-end") >= asked


class Bench:
    """Use it in a `with` block. lab_origin: who may frame the club's pages. pace: of the mail
    server. host: where the club listens.

    Experiments disturb one another, so each runs inside `with bench.alone`.
    Raises BenchError or ServerDown if the set-up can't be brought to work, and what the engine
    raises that the environment chooses: ConfigError, EngineUnavailable.
    """

    mail: MailServer
    club: ClubServer
    engine: ClubEngine

    def __init__(
        self,
        lab_origin: str,
        pace: Pace | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.alone = threading.Lock()
        self._lab_origin = lab_origin
        self._pace = pace
        self._host = host
        self._numbers = itertools.count(1)

    def __enter__(self) -> Bench:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="offload-lab-", ignore_cleanup_errors=True)
            path = Path(stack.enter_context(folder))
            self.engine = ClubEngine(path)
            self.engine.check()
            stack.callback(self.engine.tidy)
            self.mail = stack.enter_context(MailServer(self._pace))
            self.club = ClubServer(path, self.mail.port, self._lab_origin, self.engine, self._host)
            stack.enter_context(self.club)
            self._warm_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _warm_up(self) -> None:
        """One job, so that nothing measured later includes the start of the worker."""
        [name] = self.names("warm-up", 1)
        self.club.get(f"/background?member={name}")
        self.until(lambda: self.mails_to([name])[name] > 0 or self.club.worker_has_died, WARM_UP)
        if self.club.worker_has_died:
            raise self.club.down("The worker did not start. Its last words:")
        if not self.mails_to([name])[name]:
            raise BenchError

    def names(self, prefix: str, count: int) -> list[str]:
        """Names of members that nobody has had."""
        return [f"{prefix}-{next(self._numbers)}" for _ in range(count)]

    def watch(self) -> Watch:
        """The journal from now on."""
        return Watch(Journal(self.club.settings.journal))

    def mails_to(self, names: Collection[str]) -> Counter[str]:
        """How many mails each of these members got."""
        recipients = (mail.recipient.partition("@")[0] for mail in self.mail.mails)
        return Counter(name for name in recipients if name in names)

    @staticmethod
    def until(condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for the condition; False when it still does not hold after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK)
        return True
