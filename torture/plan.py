"""The plan of the torture, T1 to T27: what is tried, what must hold, which tests do it."""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """what: is done. gate: must hold. tests: files in tests/ that do it beside the scenarios of
    that number."""

    what: str
    gate: str
    tests: tuple[str, ...] = ()


PLAN: dict[str, Item] = {
    "T1": Item(
        "`kill -9` of every process at random moments",
        "nothing lost, nothing stuck; only jobs whose process was killed ran again",
        ("worker/test_promises.py", "store/test_store_processes.py"),
    ),
    "T2": Item(
        "`kill -9` at each system call that writes, and between the steps of a job",
        "every job accounted for after each; what had not started has lost nothing",
    ),
    "T3": Item(
        "from the kill to the new start",
        "p99 at most 1 s; at most 2 s from the start of a new worker if none was left",
        ("worker/test_promises.py",),
    ),
    "T4": Item(
        "stopped for longer than any timeout, then going on",
        "no job runs twice, no stale result or report is written",
        ("store/test_store_attempts.py",),
    ),
    "T5": Item(
        "stopped in the middle of a write transaction",
        "the others are refused with an error that names it, and write again once it continues",
    ),
    "T6": Item(
        "jobs that harm their process",
        "each ends as it must in at most three runs; all others are done; then 90% of the speed",
        ("worker/test_worker.py",),
    ),
    "T7": Item("power cuts", "what was accepted is there after each, and the file is intact"),
    "T8": Item(
        "full, read-only, locked, faulty disks; no descriptors left",
        "`enqueue` says so; what was accepted stays; it goes on by itself",
        ("store/test_store_bad_days.py", "worker/test_worker_hard_conditions.py"),
    ),
    "T9": Item(
        "damaged, deleted, replaced databases",
        "refused with the remedy, never silently replaced by a new one",
        ("store/test_store_bad_days.py",),
    ),
    "T10": Item("the log is emptied while others write", "the file stays intact"),
    "T11": Item(
        "steps of the clock, both changes to and from summer time",
        "no job is lost or stuck, each time of a schedule makes one job",
        ("unit/test_schedule.py", "store/test_store_time.py"),
    ),
    "T12": Item(
        "a million waiting jobs, a million finished ones",
        "enqueue and claim cost at most 1.3 times; deleting gives the space back",
        ("store/test_store_plans.py",),
    ),
    "T13": Item(
        "sixteen writers", "no writer is refused; each has its share", ("profiler/test_gate.py",)
    ),
    "T14": Item("a long reader", "the log is short again soon after it has ended"),
    "T15": Item(
        "stops and restarts under load",
        "no request fails, no job is cut that would have ended in time, the others are handed back",
        ("worker/test_keeper.py",),
    ),
    "T16": Item("old and new versions side by side", "unknown tasks wait; nothing runs twice"),
    "T17": Item(
        "gunicorn with threads, `--preload`, gevent",
        "no request fails, nothing is lost",
        ("worker/test_keeper.py", "store/test_store_processes.py"),
    ),
    "T18": Item(
        "Redis and RabbitMQ die, hang, come back", "nothing lost, `enqueue` answers in time"
    ),
    "T19": Item("Celery jobs due after the visibility timeout", "each runs once"),
    "T20": Item("a million jobs and more", "memory and descriptors flat, the file bounded"),
    "T21": Item(
        "the store against a plain model of it",
        "they never differ",
        ("helpers/store_reference_model.py",),
    ),
    "T22": Item("each condition that fences a write is taken out", "a test notices"),
    "T23": Item(
        "hostile requests, payloads, settings",
        "no answer 5xx, nothing runs, nothing leaks",
        (
            "web/test_hostile_requests.py",
            "web/test_hostile_pages.py",
            "unit/test_hostile_settings.py",
            "unit/test_payload_hostile.py",
        ),
    ),
    "T24": Item(
        "odd values given to everything that a task can call",
        "refused in the task or carried; no process dies, no list or page is unreadable",
        ("unit/test_reported_values.py", "worker/test_worker_odd_tasks.py"),
    ),
    "T25": Item(
        "each server, with each way to make the app, and each way to stop it",
        "jobs run with the configuration of their web process; each is done after a restart; no"
        " process is left",
        ("worker/test_same_app.py", "worker/test_keeper.py"),
    ),
    "T26": Item(
        "clients that differ in one thing ask for the same, and for each other's jobs",
        "each gets its own answer, a stranger none",
        ("web/test_web_identity.py",),
    ),
    "T27": Item(
        "jobs of the app's transactions: `kill -9` of the web process at each call that writes;"
        " deadlocks, serialization failures, connections lost at COMMIT",
        "no committed row without its jobs, no job without its row, each runs once",
        ("transactions/test_transactions.py", "transactions/test_other_ways.py"),
    ),
}
