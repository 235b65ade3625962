"""The quiz: a second try before the answer is shown, and variants of what was missed. No JavaScript
needed."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from .content import read
from .modes import BY_SLUG

recall = Blueprint("recall", __name__)
COOKIE = "lab_recall"
YEAR = 365 * 86_400
NOTHING = "-"

FIRST, AGAIN = "abcd", "ABCD"
"""In the cookie: a first answer that was wrong, an answer after that. Digits: a first answer."""


@dataclass(frozen=True)
class QuestionVariant:
    """The same in other words, for those who missed it."""

    text: str
    answers: list[str]
    right: int


@dataclass(frozen=True)
class Question:
    """right: the number of the right answer, and because: why. mode: the one that explains it."""

    text: str
    answers: list[str]
    right: int
    mode: str
    because: str
    variant: QuestionVariant


@dataclass(frozen=True)
class Asked:
    """A question or its variant, with what the reader has answered.

    key: of its field. state: a character of the cookie.
    """

    key: str
    question: Question
    asked: Question | QuestionVariant
    state: str

    @property
    def chosen(self) -> int | None:
        """The number of the answer; None: none yet."""
        return _choice(self.state)

    @property
    def is_right(self) -> bool:
        """Whether the reader's answer is right."""
        return self.chosen == self.asked.right

    @property
    def may_try_again(self) -> bool:
        """Whether the first answer was wrong, and the right one is not shown yet."""
        return self.state in FIRST

    @property
    def was_missed(self) -> bool:
        """Whether the first answer was wrong."""
        return self.state in FIRST + AGAIN


QUESTIONS = read("recall", "questions", list[Question])


@recall.get("/recall")
def show() -> str:
    """The questions, with feedback for those that have been answered."""
    asked, variants = _asked(_kept())
    return render_template(
        "recall.html",
        mode=BY_SLUG["recall"],
        following=None,
        asked=asked,
        variants=[each for each, of in zip(variants, asked, strict=True) if of.was_missed],
        answered=sum(each.chosen is not None for each in asked),
        score=sum(each.is_right for each in asked),
    )


@recall.post("/recall")
def answer() -> Response:
    """Store what was answered, and show the feedback."""
    kept = NOTHING * 2 * len(QUESTIONS) if "again" in request.form else _kept()
    asked, variants = _asked(kept)
    kept = "".join(_next(each, request.form.get(each.key)) for each in asked + variants)
    place = request.form.get("check", "")
    target = url_for("recall.show", _anchor=place if place.startswith(("q", "v")) else None)
    response = redirect(target, 303)
    response.set_cookie(COOKIE, kept, max_age=YEAR, httponly=True, samesite="Strict")
    return response


def _next(each: Asked, given: str | None) -> str:
    """The state after this answer; values that the form does not offer are ignored."""
    if given not in list("0123")[: len(each.asked.answers)] or int(given) == each.chosen:
        return each.state
    choice = int(given)
    if each.state == NOTHING and choice != each.asked.right:
        return FIRST[choice]
    return AGAIN[choice] if each.was_missed else given


def _choice(state: str) -> int | None:
    for states in (FIRST, AGAIN, "0123"):
        if state in states:
            return states.index(state)
    return None


def _asked(kept: str) -> tuple[list[Asked], list[Asked]]:
    """The questions and their variants."""
    count = len(QUESTIONS)
    numbered = list(enumerate(QUESTIONS))
    return (
        [Asked(f"q{n}", each, each, kept[n]) for n, each in numbered],
        [Asked(f"v{n}", each, each.variant, kept[count + n]) for n, each in numbered],
    )


def _kept() -> str:
    """The answers in the cookie; what is old or unknown is ignored."""
    value = request.cookies.get(COOKIE, "").ljust(2 * len(QUESTIONS), NOTHING)
    known = FIRST + AGAIN + "0123"
    return "".join(state if state in known else NOTHING for state in value[: 2 * len(QUESTIONS)])
