"""What is left of the work when its processes get a `kill -9` in the middle of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Literal

from .testbed import Bench, Watch

Pattern = Literal["sync", "thread", "background"]

UNDER_WAY = 15.0
"""Seconds until the work of all members has begun."""

PATIENCE = {"sync": 0.5, "thread": 3.0, "background": 60.0}
"""Seconds to wait for mails after the restart. Jobs lie in the database until somebody runs them.
What the others had begun was only in the process that is dead; they get more than twice the time
that the work takes, in case somebody finds it after all."""


@dataclass(frozen=True)
class Survival:
    """members: how many signed up. answered: how many of them were told "welcome".

    done: how many got their mail in the end; twice: how many got it more than once.
    killed: how many processes died. recovered_ms: from the kill until some of the interrupted work
    was running again; None if it never did.
    """

    pattern: Pattern
    members: int
    answered: int
    done: int
    twice: int
    killed: int
    recovered_ms: float | None
    waited: bool = False
    """Whether the visitors had to wait for the work, so that the kill hit them too."""

    @property
    def lost(self) -> int:
        """How many were told "welcome" and never got their mail."""
        return max(self.answered - self.done, 0)


class Visitors:
    """Sign up, all at once and each on a connection of their own."""

    def __init__(self, bench: Bench, pattern: Pattern, names: list[str]) -> None:
        self._club = bench.club
        self._pattern = pattern
        self._lock = threading.Lock()
        self.answered = 0
        self._threads = [
            threading.Thread(target=self._sign_up, args=[name], daemon=True) for name in names
        ]
        for thread in self._threads:
            thread.start()

    @property
    def are_served(self) -> bool:
        """Whether each has an answer, or an error."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Until they are served."""
        for thread in self._threads:
            thread.join()

    def _sign_up(self, name: str) -> None:
        try:
            status = self._club.get(f"/{self._pattern}?member={name}")
        except (OSError, HTTPException):
            return  # the server died on this visitor
        with self._lock:
            self.answered += status < 400


def survive(
    bench: Bench,
    pattern: Pattern,
    members: int = 4,
    say: Callable[[str], None] = lambda _: None,
) -> Survival:
    """Let members sign up, kill every process of the club while their work is under way, start the
    club again, and count whose work was done."""
    names = bench.names(f"kill-{pattern}", members)
    watch = bench.watch()
    visitors = Visitors(bench, pattern, names)
    waited = pattern == "sync" or (pattern == "background" and not bench.engine.has_worker)
    if not waited:  # on a slow machine the first mail can be there before the last answer
        bench.until(lambda: visitors.are_served or bool(bench.mails_to(names)), UNDER_WAY)
    bench.until(lambda: watch.count("work-begin", names) > 0, UNDER_WAY)
    say(f"/{pattern}: {visitors.answered} of {members} were told “welcome”; now kill -9")
    killed = bench.club.kill_all()
    died_at = time.monotonic()
    bench.club.start()
    patience = PATIENCE["sync" if waited else pattern]
    bench.until(lambda: len(bench.mails_to(names)) == members, patience)
    visitors.wait()
    mails = bench.mails_to(names)
    return Survival(
        pattern,
        members,
        visitors.answered,
        done=len(mails),
        twice=sum(count > 1 for count in mails.values()),
        killed=len(killed),
        recovered_ms=_recovery(watch, names, died_at),
        waited=waited,
    )


def _recovery(watch: Watch, names: list[str], died_at: float) -> float | None:
    """From the kill until work that had begun before it began again."""
    begun = {
        note.subject for note in watch.notes if note.kind == "work-begin" and note.at < died_at
    }
    again = [
        note.at
        for note in watch.notes
        if note.kind == "work-begin" and note.at > died_at and note.subject in begun & set(names)
    ]
    return (min(again) - died_at) * 1000 if again else None
