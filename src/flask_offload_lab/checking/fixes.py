"""What the answers to the challenges of Fix must do."""

from __future__ import annotations

from collections.abc import Iterator

from ..photo import SAMPLE
from .harness import Answer, expect


def mail(answer: Answer) -> Iterator[str]:
    """The mail in the request."""
    response = answer.post("/join", name="ada")
    yield "The gate saw nothing that blocks."
    expect(response.status_code == 200, "The page should say welcome, as before.")
    answer.job()
    yield "The call is on disk, and a real worker has run it."
    answer.mail_to("ada@visitors.example")
    yield "The mail has arrived."


def portraits(answer: Answer) -> Iterator[str]:
    """An honest answer."""
    with SAMPLE.open("rb") as photo:
        response = answer.post("/portraits", photo=(photo, "portrait.jpg"))
    yield "The gate saw nothing that blocks."
    expect(
        response.status_code == 202 and "Location" in response.headers,
        f"It answered {response.status_code}: {response.text.strip()[:80]!r}. At that moment not"
        " one portrait was finished. Say what is true: accepted, and where to look.",
    )
    yield f"It answered 202, and told where to look: {response.headers['Location'][:24]}…"
    job = answer.job()
    expect(
        job.progress is not None and job.progress.total == 5,
        "The portraits are made, but the visitor saw nothing of it until the end: the job never"
        " said how far it was.",
    )
    yield "The worker has made five portraits, and said how far it was."


def commit(answer: Answer) -> Iterator[str]:
    """Too quick a worker."""
    # that slow disk is a sleep, which the gate sees from Python 3.13 on
    response = answer.post("/join", name="grace", allow=["sleep"])
    yield "The gate saw nothing that blocks."
    expect(response.status_code == 200, "The page should say welcome, as before.")
    answer.job()
    yield "The worker found the member, though the disk was slow."
    answer.mail_to("grace@visitors.example")
    yield "The mail has arrived."


CHECKS = {"mail": mail, "portraits": portraits, "commit": commit}
