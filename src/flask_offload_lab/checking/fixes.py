"""What the answers to the challenges of Fix must do."""

from __future__ import annotations

from collections.abc import Iterator

from ..photo import SAMPLE
from .harness import GATE_PASSED, Submission, expect


def mail(submission: Submission) -> Iterator[str]:
    """The mail in the request."""
    response = submission.post("/join", name="ada")
    yield GATE_PASSED
    expect(response.status_code == 200, "The page should say welcome, as before.")
    submission.job()
    yield "The call is on disk, and a real worker has run it."
    submission.expect_mail_to("ada@visitors.example")
    yield "The mail has arrived."


def portraits(submission: Submission) -> Iterator[str]:
    """An honest answer."""
    with SAMPLE.open("rb") as photo:
        response = submission.post("/portraits", photo=(photo, "portrait.jpg"))
    yield GATE_PASSED
    expect(
        response.status_code == 202 and "Location" in response.headers,
        f"It answered {response.status_code}: {response.text.strip()[:80]!r}. At that moment not"
        " one portrait was finished. Answer what is true: accepted, and where to look.",
    )
    yield f"It answered 202, with the place to look at: {response.headers['Location'][:24]}…"
    job = submission.job()
    expect(
        job.progress is not None and job.progress.total == 5,
        "The portraits are made, but the job reported no progress, so the visitor saw none.",
    )
    yield "The worker has made five portraits, and reported its progress."


def commit(submission: Submission) -> Iterator[str]:
    """Too quick a worker."""
    # that slow disk is a sleep, which the gate sees from Python 3.13 on
    response = submission.post("/join", name="grace", allow=["sleep"])
    yield GATE_PASSED
    expect(response.status_code == 200, "The page should say welcome, as before.")
    submission.job()
    yield "The worker found the member, though the disk was slow."
    submission.expect_mail_to("grace@visitors.example")
    yield "The mail has arrived."


CHECKS = {"mail": mail, "portraits": portraits, "commit": commit}
