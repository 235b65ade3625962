"""What the steps of Build must do, in the reader's own project."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from flask_offload.engine_api import ScheduleSpec, next_fire, schedule_specs

from ..photo import SAMPLE
from .harness import Submission, expect

DAY = 86_400.0


def mail(submission: Submission) -> Iterator[str]:
    """Step 1: the sign-up mail."""
    submission.post("/signup", events=True, address="ada@visitors.example")
    yield "POST /signup answers, and the gate found nothing that blocks."
    submission.job()
    yield "The mail was a job, and a worker has run it."
    submission.expect_mail_to("ada@visitors.example")
    yield "It has arrived."


def photo(submission: Submission) -> Iterator[str]:
    """Step 2: thumbnails, with progress."""
    with SAMPLE.open("rb") as file:
        # the request itself has to save the upload, so files do not count
        response = submission.post("/photo", events=False, photo=(file, "portrait.jpg"))
    yield "POST /photo answers, and the gate found nothing that blocks."
    expect(
        response.status_code == 202 and "Location" in response.headers,
        f"It answered {response.status_code}: the thumbnails were not made yet. Answer with"
        " offload.accepted(job).",
    )
    yield "It answers 202, with the place to look at."
    job = submission.job()
    thumbs = list(Path(submission.app.instance_path, "thumbs").glob("*.webp"))
    expect(len(thumbs) == 4, f"There are {len(thumbs)} thumbnails, not 4.")
    yield "A worker has made four thumbnails."
    expect(
        job.progress is not None and job.progress.total == 4,
        "The job reported no progress: for size in current_job.track(SIZES).",
    )
    yield "And it reported its progress."


def clean_up(submission: Submission) -> Iterator[str]:
    """Step 3: the nightly clean-up."""
    with submission.app.app_context():
        specs = schedule_specs(submission.offload.state_of(submission.app))
    nightly = [spec.job.task for spec in specs if _is_nightly(spec)]
    expect(bool(nightly), 'Nothing runs every night: @offload.every("0 3 * * *").')
    yield "There is a task that runs once a night."
    uploads = Path(submission.app.instance_path, "uploads")
    uploads.mkdir(parents=True, exist_ok=True)
    old, new = uploads / "old.jpg", uploads / "new.jpg"
    for path, age in ((old, 8), (new, 1)):
        path.write_bytes(b"a photo")
        moment = time.time() - age * DAY
        os.utime(path, (moment, moment))
    with submission.app.app_context():
        submission.offload.tasks[nightly[0]].enqueue()
    submission.job()
    yield "A worker has run it."
    expect(not old.exists(), "A file of eight days is still in uploads.")
    expect(new.exists(), "A file of one day is gone; only those older than a week should be.")
    yield "What was older than a week is gone, and only that."


def _is_nightly(spec: ScheduleSpec) -> bool:
    """Whether it fires once a day."""
    first = next_fire(spec, None, time.time())
    second = None if first is None else next_fire(spec, None, first)
    return first is not None and second is not None and abs(second - first - DAY) < 3_601


CHECKS = {"mail": mail, "photo": photo, "clean_up": clean_up}
