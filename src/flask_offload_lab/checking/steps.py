"""What the steps of Build must do, in the reader's own project."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from flask_offload.tasks.schedule import Schedule, next_after

from ..photo import SAMPLE
from .harness import Answer, expect

DAY = 86_400.0


def mail(answer: Answer) -> Iterator[str]:
    """Step 1: the sign-up mail."""
    answer.post("/signup", events=True, address="ada@visitors.example")
    yield "POST /signup answers, and the gate saw nothing that blocks."
    answer.job()
    yield "The mail was a job, and a worker has run it."
    answer.mail_to("ada@visitors.example")
    yield "It has arrived."


def photo(answer: Answer) -> Iterator[str]:
    """Step 2: thumbnails, with progress."""
    with SAMPLE.open("rb") as file:
        # saving the upload is the request's business, so only the clock counts
        response = answer.post("/photo", events=False, photo=(file, "portrait.jpg"))
    yield "POST /photo answers, and the gate saw nothing that blocks."
    expect(
        response.status_code == 202 and "Location" in response.headers,
        f"It answered {response.status_code}: the thumbnails were not made yet. Answer with"
        " offload.accepted(job).",
    )
    yield "It answers 202, and tells where to look."
    job = answer.job()
    thumbs = list(Path(answer.app.instance_path, "thumbs").glob("*.webp"))
    expect(len(thumbs) == 4, f"There are {len(thumbs)} thumbnails, not 4.")
    yield "A worker has made four thumbnails."
    expect(
        job.progress is not None and job.progress.total == 4,
        "The job never said how far it was: for size in current_job.track(SIZES).",
    )
    yield "And it said how far it was."


def clean_up(answer: Answer) -> Iterator[str]:
    """Step 3: the nightly clean-up."""
    nightly = [
        task for schedule, task in answer.offload.schedules.values() if _is_nightly(schedule)
    ]
    expect(bool(nightly), 'Nothing runs every night: @offload.every("0 3 * * *").')
    yield "There is something that runs once a night."
    uploads = Path(answer.app.instance_path, "uploads")
    uploads.mkdir(parents=True, exist_ok=True)
    old, new = uploads / "old.jpg", uploads / "new.jpg"
    for path, age in ((old, 8), (new, 1)):
        path.write_bytes(b"a photo")
        moment = time.time() - age * DAY
        os.utime(path, (moment, moment))
    with answer.app.app_context():
        nightly[0].enqueue()
    answer.job()
    yield "A worker has run it."
    expect(not old.exists(), "A file of eight days is still in uploads.")
    expect(new.exists(), "A file of one day is gone; only those older than a week should be.")
    yield "What was older than a week is gone, and only that."


def _is_nightly(schedule: Schedule) -> bool:
    """Whether it fires once a day."""
    first = next_after(schedule, time.time())
    second = None if first is None else next_after(schedule, first)
    return first is not None and second is not None and abs(second - first - DAY) < 3_601


CHECKS = {"mail": mail, "photo": photo, "clean_up": clean_up}
