"""A worker goes on when all jobs that it holds have ended before it looks: their places in its
table are free only after that."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from flask_offload import JobStatus
from small_site import small_site
from support import wait_until

pytestmark = pytest.mark.processes

SHOP = """
from flask import Flask
from flask_offload import Offload

app, offload = Flask(__name__), Offload()
app.config.from_prefixed_env()

@offload.task
def work(number): ...

offload.init_app(app)
"""
JOBS, ROUNDS = 1000, 9


def test_jobs_that_end_while_the_supervisor_is_held_up(tmp_path: Path) -> None:
    with (
        small_site(tmp_path, SHOP) as site,
        site.worker("--threads", "40") as worker,
        site.app.app_context(),
    ):
        task = site.offload.task(name="shop.work")(lambda number: None)

        def left() -> int:
            return site.offload.count()[JobStatus.READY]

        for number in range(ROUNDS):
            site.offload.engine.pause("default")
            site.offload.enqueue_many([task.call(number) for number in range(JOBS)])
            site.offload.engine.resume("default")
            if number > 2:  # the first ones show that jobs are short: many are claimed at once
                wait_until(lambda: left() < JOBS, 30, "the first are claimed")
                os.kill(worker.pid, signal.SIGSTOP)
                time.sleep(0.3)  # its child finishes all that it holds
                os.kill(worker.pid, signal.SIGCONT)
            wait_until(lambda: left() == 0, 20, "the rest has run, with no enqueue in between")
