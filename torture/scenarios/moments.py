"""kill -9 between two steps of a job's life, where chance would seldom fall."""

from __future__ import annotations

from typing import Any

from flask_offload import Job, JobStatus

from ..app import accept, careful, quick
from ..kill_points import DONE, MOMENTS_OF, SITE, STORE, WHICH, Moment
from ..scenario import BOTH, Run, scenario
from ..world import World


@scenario(
    "T2",
    "a worker or its child is killed between claim and start, at the start, and at each step from a"
    " job's last line to the commit of its outcome: what had not started has lost nothing",
    stores=BOTH,
)
def kill_between_the_steps_of_a_job(run: Run) -> None:
    moments, store = MOMENTS_OF[run.report.scenario.store], run.report.scenario.store
    names = [*moments] * 10 if run.long else run.chance.sample([*moments], 4)
    wrong: list[str] = []
    for name in names:
        with run.world() as world:
            first, others = _killed_at(world, name, store)
            audit = world.audit()
        found = [
            _wrong(moments[name], first),
            *(_hurt(moments[name], job) for job in others),
            *audit.violations,
        ]
        wrong += [f"{name}: {text}" for text in found if text]
        if audit.waiting or audit.stuck or audit.lost:
            wrong.append(f"{name}: {audit}")
    run.figure("killed", f"{len(names)} times, at {len({*names})} of {len(moments)} steps")
    run.gate(
        "the job that runs next has ended as it must, the others are done",
        wrong[:5] or "yes",
        not wrong,
    )


def _killed_at(world: World, name: str, store: str) -> tuple[Job, list[Job]]:
    """A worker that dies at this moment, and another that does the rest. The job that runs first
    and may do so only once, and those behind it."""
    site, killed = world.folder / "site", world.folder / "killed"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    env: dict[str, Any] = {
        "PYTHONPATH": f"{site}:{world.env['PYTHONPATH']}",
        WHICH: name,
        STORE: store,
        DONE: str(killed),
    }
    with world.here():
        world.watch()
        first = accept(careful.using(priority=1).enqueue(0.05))
        others = [accept(quick.enqueue()) for _ in range(5)]
        one = ("--processes", "1", "--threads", "1", "--log-level", "error")
        process = world.start(world.command("worker", "--burst", *one), **env)
        process.wait(60)
        assert killed.exists(), f"{name}: it never came to that: {process}"
        world.burst()
        return first.refresh(), [job.refresh() for job in others]


def _wrong(moment: Moment, job: Job) -> str | None:
    """Of the job that may run once only: it is given up if it may have begun and hasn't ended."""
    gone = moment.started and not moment.written
    status = JobStatus.FAILED if gone else JobStatus.SUCCESSFUL
    outcome = "CRASHED" if gone else "SUCCESSFUL"
    outcomes = [attempt.outcome for attempt in job.attempts]
    if (job.status, outcomes) == (status, [outcome]):
        return None
    return f"the first job is {job.status} after {outcomes}"


def _hurt(moment: Moment, job: Job) -> str | None:
    """Of a job behind it: the next may have begun once the first has ended, the others have not."""
    outcomes = [attempt.outcome for attempt in job.attempts]
    if outcomes == ["SUCCESSFUL"] or (moment.started and outcomes == ["CRASHED", "SUCCESSFUL"]):
        return None
    return f"another job is {job.status} after {outcomes}"
