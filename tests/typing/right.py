"""Calls that mypy must accept; see test_typing.py."""

from datetime import timedelta

from flask import Flask

from flask_offload import Job, JobStatus, Offload

app = Flask(__name__)
offload = Offload(app)


@offload.task(queue_name="mail", max_attempts=5, timeout=30, unique=True)
def send_welcome(user_id: int, *, greeting: str = "hello") -> str:
    return f"{greeting} {user_id}"


@offload.task(
    keep={"FAILED": 60, "SUCCESSFUL": timedelta(days=1)}, unique_states=["READY"], unique=True
)
def kept() -> None: ...


@offload.task
def plain() -> None: ...


@offload.task
async def later(seconds: float) -> None: ...


@offload.every("*/15 * * * *", tz="Europe/Berlin")
def sweep() -> None: ...


@offload.respond_async
def report(year: int) -> str:
    return str(year)


def somebody_elses(a: int, b: int) -> int:
    return a + b


job: Job = send_welcome.enqueue(7, greeting="hi")
same: Job = send_welcome.delay(7)
late: Job = send_welcome.using(run_after=timedelta(hours=1), priority=10).enqueue(7)
here: str = send_welcome(7)
many: list[Job] = offload.enqueue_many([send_welcome.call(number) for number in range(3)])
wrapped: Job = offload.task(somebody_elses).enqueue(1, 2)
again: Job = later.enqueue(0.5)
swept: Job = sweep.enqueue()
page: str = report(2026)
done: bool = job.status is JobStatus.SUCCESSFUL
