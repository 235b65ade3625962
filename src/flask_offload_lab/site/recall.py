"""The quiz: questions, feedback that explains, a score that is kept. No JavaScript needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from .content import read
from .modes import BY_SLUG

recall = Blueprint("recall", __name__)
COOKIE = "lab_recall"
YEAR = 365 * 86_400
NOTHING = "-"


@dataclass(frozen=True)
class Question:
    """right: the number of the right answer, and because: why. mode: the one that explains it."""

    text: str
    answers: list[str]
    right: int
    mode: str
    because: str


@dataclass(frozen=True)
class Asked:
    """A question with what the reader has answered, None if nothing yet."""

    number: int
    question: Question
    chosen: int | None

    @property
    def is_right(self) -> bool:
        """Whether the reader's answer is right."""
        return self.chosen == self.question.right


QUESTIONS = read("recall", "questions", list[Question])


@recall.get("/recall")
def show() -> str:
    """The questions, with feedback for those that have been answered."""
    return _page(_kept())


@recall.post("/recall")
def answer() -> Response:
    """Store what was answered, and show the feedback."""
    kept = {} if "again" in request.form else _kept() | _given(request.form)
    place = request.form.get("check", "")
    target = url_for("recall.show", _anchor=place if place.startswith("q") else None)
    response = redirect(target, 303)
    value = "".join(str(kept.get(number, NOTHING)) for number in range(len(QUESTIONS)))
    response.set_cookie(COOKIE, value, max_age=YEAR, httponly=True, samesite="Strict")
    return response


def _page(kept: Mapping[int, int]) -> str:
    asked = [Asked(n, question, kept.get(n)) for n, question in enumerate(QUESTIONS)]
    return render_template(
        "recall.html",
        mode=BY_SLUG["recall"],
        following=None,
        asked=asked,
        answered=len(kept),
        score=sum(each.is_right for each in asked),
    )


def _given(form: Mapping[str, str]) -> dict[int, int]:
    """The answers in the form; values that it does not offer are ignored."""
    given = {}
    for number, question in enumerate(QUESTIONS):
        choice = form.get(f"q{number}", NOTHING)
        if choice in list("0123")[: len(question.answers)]:
            given[number] = int(choice)
    return given


def _kept() -> dict[int, int]:
    """The answers in the cookie; an old or unknown one is ignored."""
    value = request.cookies.get(COOKIE, "")
    return _given({f"q{number}": digit for number, digit in enumerate(value)})
