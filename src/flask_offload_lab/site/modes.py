"""The modes, in their order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """One page. slug: its path. minutes: how long it takes, roughly."""

    number: int
    slug: str
    name: str
    idea: str
    minutes: int

    @property
    def path(self) -> str:
        """Where it is; other sites may link to it."""
        return f"/{self.slug}"


MODES = tuple(
    Mode(number, *rest)
    for number, rest in enumerate(
        (
            ("why", "Why", "The work takes a second. Who waits for it?", 1),
            ("see", "See", "Watch a web server for a few seconds.", 1),
            ("measure", "Measure", "What your own browser measures.", 3),
            ("deep", "Deep", "What a thread costs, and what a worker does instead.", 5),
            ("queue", "Queue", "What happens when many jobs come at once?", 5),
            ("try", "Try", "Press the buttons: mail, photo, one visitor or twenty.", 3),
            ("spot", "Spot", "Five slow routes. Find the line that blocks.", 4),
            ("fix", "Fix", "Put a blocking view together so that it no longer blocks.", 5),
            ("build", "Build", "Three steps in your own editor, checked by the lab.", 30),
            ("recall", "Recall", "Twelve questions about the other modes.", 3),
        ),
        1,
    )
)
BY_SLUG = {mode.slug: mode for mode in MODES}

QUICK_WAY = ("why", "see", "measure")
"""Five minutes."""

SHORT_WAY = (*QUICK_WAY, "recall")
"""The lesson in about eight minutes."""

LESSON_MINUTES = sum(BY_SLUG[slug].minutes for slug in SHORT_WAY)
