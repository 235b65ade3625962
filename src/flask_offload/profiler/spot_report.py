"""What a report about one slow request says. It is made in `findings`, with modules that an app
which is not profiled never imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .call_tree import NOT_SEEN


@dataclass(frozen=True, slots=True)
class Blocker:
    """A function that blocked a request.

    share: of the request's time, 0 to 1. waiting: it waited (True) or computed (False); None: not
    known. line: where in the function. what: what it did, and where. advice: "task",
    "respond_async", "query", "cache" or "leave"; "" when there is none. remedy: what to do about
    it, a sentence without the full stop. callers: names and shares of its time, when it was called
    in several ways.
    """

    function: str
    file: str
    line: int
    share: float
    waiting: bool | None
    what: str
    advice: str
    remedy: str
    callers: tuple[tuple[str, float], ...] = ()


UNKNOWN = Blocker(NOT_SEEN, "", 0, 1.0, None, "not seen", "", "")
"""The blocker of a request, or of its part, in which nothing was sampled."""


class Figures(NamedTuple):
    """The figures of a request: how many seconds it took, and how many samples were taken."""

    seconds: float
    samples: int


@dataclass(frozen=True, slots=True)
class SpotReport:
    """What was found about one slow request; `blockers` largest first, none without samples. What
    was not seen is the last of them. queries: how many SQL statements it ran."""

    route: str
    seconds: float
    samples: int
    blockers: tuple[Blocker, ...]
    sentence: str
    queries: int = 0
