"""What is left of the work when its processes get a `kill -9` in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Literal

from .journal import JournalReader
from .testbed import LabTestbed

Pattern = Literal["sync", "thread", "background"]

BEGIN_TIMEOUT = 15.0
"""Seconds until the work of all members has begun."""

PATIENCE = {"sync": 0.5, "thread": 3.0, "background": 60.0}
"""Seconds to wait for mails after the restart. Jobs are in the database until a worker runs them.
Work in the request or in a thread existed only in the process that was killed; it gets more than
twice the time that it takes, to be sure."""


@dataclass(frozen=True)
class CrashTestResult:
    """members: how many signed up. answered: how many of them got the page "Welcome".

    done: how many got their mail; twice: how many got it more than once. dropped: how many
    deliveries were repeated, and dropped by the mail server as it knew their Message-ID.
    killed: how many processes. recovered_ms: from the kill until some of the interrupted work ran
    again; None if it never did.
    """

    pattern: Pattern
    members: int
    answered: int
    done: int
    twice: int
    killed: int
    recovered_ms: float | None
    waited: bool = False
    """Whether the visitors had to wait for the work, so that the kill interrupted them too."""
    dropped: int = 0

    @property
    def lost(self) -> int:
        """How many got the page "Welcome" and never their mail."""
        return max(self.answered - self.done, 0)


def run_crash_test(
    testbed: LabTestbed,
    pattern: Pattern,
    members: int = 4,
    report: Callable[[str], None] = lambda _: None,
) -> CrashTestResult:
    """Let members sign up, kill every process of the sample app while their work runs, start the
    app again, and count whose work was done. report: called with what happens next."""
    names = testbed.names(f"kill-{pattern}", members)
    journal = testbed.journal()
    waited = pattern == "sync" or (pattern == "background" and not testbed.engine.has_worker)
    with ThreadPoolExecutor(members) as pool:
        answers = [
            pool.submit(_is_answered, testbed, f"/{pattern}?member={name}") for name in names
        ]
        if not waited:  # on a slow machine the first mail can be there before the last answer
            testbed.until(
                lambda: all(answer.done() for answer in answers) or bool(testbed.mails_to(names)),
                BEGIN_TIMEOUT,
            )
        testbed.until(lambda: journal.count("work-begin", names) > 0, BEGIN_TIMEOUT)
        answered = sum(answer.done() and answer.result() for answer in answers)
        report(f"/{pattern}: {answered} of {members} got the page “Welcome”; now kill -9")
        killed = testbed.sample_app.kill_all()
        killed_at = time.monotonic()
        testbed.sample_app.start()
        patience = PATIENCE["sync" if waited else pattern]
        testbed.until(lambda: len(testbed.mails_to(names)) == members, patience)
        if pattern == "background" and not waited:  # a job that runs again may send its mail again
            testbed.until(lambda: _has_ended(journal, names), patience)
    mails = testbed.mails_to(names)
    return CrashTestResult(
        pattern,
        members,
        answered=sum(answer.result() for answer in answers),
        done=len(mails),
        twice=sum(count > 1 for count in mails.values()),
        killed=len(killed),
        recovered_ms=_recovery(journal, names, killed_at),
        waited=waited,
        dropped=testbed.dropped_mails_to(names).total(),
    )


def _is_answered(testbed: LabTestbed, path: str) -> bool:
    """Whether a page is served, rather than an error or nothing because the server was killed."""
    try:
        return testbed.sample_app.get(path) < 400
    except (OSError, HTTPException):
        return False


def _has_ended(journal: JournalReader, names: list[str]) -> bool:
    ended = {note.subject for note in journal.notes if note.kind == "work-end"}
    return ended.issuperset(names)


def _recovery(journal: JournalReader, names: list[str], killed_at: float) -> float | None:
    """From the kill until work that had begun before it began again."""
    begun = {
        note.subject for note in journal.notes if note.kind == "work-begin" and note.at < killed_at
    }
    again = [
        note.at
        for note in journal.notes
        if note.kind == "work-begin" and note.at > killed_at and note.subject in begun & set(names)
    ]
    return (min(again) - killed_at) * 1000 if again else None
