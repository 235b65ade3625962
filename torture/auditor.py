"""The auditor: accounts for every accepted job, from the database and the event log alone.

    python -m torture.auditor DATABASE EVENT_LOG

DATABASE is the path of an SQLite file, or the URL of a PostgreSQL database.
It shares no code with Flask-Offload and none with the scenarios, and runs when all is quiet. What
it finds wrong is a violation; a job that ran more than once is none if its process was killed
while it ran, or if it asked to be run again itself. With `watch`, the database itself notes what
would be gone by then.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

import apsw
import psycopg

WAITING = {"ready", "scheduled", "blocked", "throttled"}
MOST_TOLD = 20
NO_ERROR = "None: None"
TOLD_WITHIN = 5.0
"""Seconds after a task's last line within which its outcome is written down. A job that ended
longer ago was not running at the kill, and has no excuse to run again."""
RETURNS_ITS_ATTEMPT = "torture.app."
"""Tasks of this module return the number of their attempt, so each success has a result."""

WATCH = """
CREATE TABLE seen_by_auditor (seq INTEGER, what TEXT);
CREATE TRIGGER finished_again AFTER UPDATE OF state ON jobs
    WHEN OLD.state IN ('successful', 'failed', 'cancelled')
    BEGIN
        INSERT INTO seen_by_auditor VALUES (OLD.seq, 'was ' || OLD.state || ' by attempt '
            || OLD.attempt || ', and became ' || NEW.state);
    END;
CREATE TRIGGER reported_late AFTER UPDATE OF message ON jobs
    WHEN NEW.message LIKE 'attempt %' AND NEW.message <> 'attempt ' || NEW.attempt
    BEGIN
        INSERT INTO seen_by_auditor VALUES (OLD.seq, 'stale report: of ' || NEW.message
            || ', and ' || NEW.attempt || ' counts');
    END;
"""
"""No job of the torture is ever retried by hand, so none leaves its final state."""
WATCH_POSTGRES = """
CREATE TABLE seen_by_auditor (seq bigint, what text);
CREATE FUNCTION finished_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO offload.seen_by_auditor VALUES (OLD.seq, 'was ' || OLD.state || ' by attempt '
        || OLD.attempt || ', and became ' || NEW.state);
    RETURN NEW; END $$;
CREATE FUNCTION reported_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO offload.seen_by_auditor VALUES (OLD.seq, 'stale report: of ' || NEW.message
        || ', and ' || NEW.attempt || ' counts');
    RETURN NEW; END $$;
CREATE TRIGGER finished_again AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state IN ('successful', 'failed', 'cancelled')) EXECUTE FUNCTION finished_again();
CREATE TRIGGER reported_late AFTER UPDATE OF message ON jobs FOR EACH ROW
    WHEN (NEW.message LIKE 'attempt %' AND NEW.message <> 'attempt ' || NEW.attempt)
    EXECUTE FUNCTION reported_late();
"""
DAMAGED = """
SELECT bt_index_check(i.indexrelid, true)
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
WHERE c.relnamespace = 'offload'::regnamespace
"""
"""Raises where an index is damaged, or a row is not in it; by the server's own extension."""


@dataclass
class Start:
    """A line that a task wrote when it began."""

    at: float
    pid: int
    attempt: int


@dataclass
class End:
    """A line that a task wrote when it was done."""

    at: float
    attempt: int


@dataclass
class Kill:
    """A violent death, between these moments."""

    began: float
    ended: float


@dataclass
class Log:
    """The event log, sorted out."""

    accepted: Counter[str] = field(default_factory=Counter)
    starts: dict[str, list[Start]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[End]] = field(default_factory=lambda: defaultdict(list))
    kills: dict[int, list[Kill]] = field(default_factory=lambda: defaultdict(list))
    accepted_at: dict[str, float] = field(default_factory=dict)
    power_cuts: list[Kill] = field(default_factory=list)


@dataclass
class Audit:
    """What became of the accepted jobs. again: of those done, how many ran more than once."""

    accepted: int = 0
    done: int = 0
    again: int = 0
    failed: int = 0
    cancelled: int = 0
    waiting: int = 0
    stuck: int = 0
    lost: int = 0
    lost_in_cut: int = 0
    """Accepted after the disk was cut off, by a process that only a simulation lets live on."""
    stale: int = 0
    """Results of another attempt than the one that counts."""
    unacknowledged: int = 0
    """Jobs whose enqueue() never returned, because its process died just then."""
    integrity: str = ""
    restarts: list[float] = field(default_factory=list)
    """Seconds from a kill to the next start of each job whose process it hit."""
    reasons: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, other: Audit) -> None:
        """Count the jobs of another database with these."""
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, int | list):
                setattr(self, item.name, mine + theirs)
        self.reasons = dict(Counter(self.reasons) + Counter(other.reasons))
        if self.integrity in ("", "ok"):
            self.integrity = other.integrity


def read_log(path: str) -> Log:
    """Sort the lines out."""
    log = Log()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            kind, at, pid, *words = line.split()
            match kind:
                case "accepted":
                    log.accepted[words[0]] += 1
                    log.accepted_at[words[0]] = float(at)
                case "start":
                    log.starts[words[0]].append(Start(float(at), int(pid), int(words[1])))
                case "end":
                    log.ends[words[0]].append(End(float(at), int(words[1])))
                case "power":
                    log.power_cuts.append(Kill(float(words[0]), float(at)))
                case "kill":
                    for victim in words[3].split(","):
                        log.kills[int(victim)].append(Kill(float(words[1]), float(words[2])))
    return log


def watch(database: str) -> None:
    """From now on, have the database note each job that leaves its final state, and each report of
    an attempt that doesn't count any more."""
    connection = _connected(database)
    connection.execute(WATCH if _is_file(database) else WATCH_POSTGRES)
    connection.close()


def audit(database: str, event_log: str) -> Audit:
    """Account for every job."""
    log, found = read_log(event_log), Audit()
    connection = _connected(database)
    found.integrity = _integrity(connection, database)
    if found.integrity != "ok":
        found.violations.append(f"integrity_check: {found.integrity}")
    jobs = _jobs(connection, database)
    attempts, seen = _attempts(connection), _seen(connection, database)
    found.accepted = len(log.accepted)
    found.unacknowledged = len(jobs.keys() - log.accepted.keys())
    for job_id, count in log.accepted.items():
        if count > 1:
            found.violations.append(f"{job_id} was accepted {count} times")
        if job_id not in jobs and _was_in_cut(log, job_id):
            found.lost_in_cut += 1
        elif job_id not in jobs:
            found.lost += 1
            found.violations.append(f"{job_id} was accepted and is not in the database")
    for job_id in log.starts.keys() - jobs.keys():
        if not _was_in_cut(log, job_id):
            found.violations.append(f"{job_id} ran and is not in the database")
    reasons: Counter[str] = Counter()
    for job_id, job in jobs.items():
        starts = sorted(log.starts[job_id], key=lambda start: start.at)
        _count(found, job, starts, attempts[job["seq"]], job_id in log.accepted)
        found.restarts += _restarts(starts, log)
        if job["state"] == "failed":
            reasons[_reason(attempts[job["seq"]])] += 1
        seen_here = seen[job["seq"]]
        for violation in [*seen_here, *_violations(job, starts, log, attempts[job["seq"]])]:
            found.stale += violation.startswith("stale")
            found.violations.append(f"{job_id} ({job['task']}): {violation}")
    found.reasons = dict(reasons.most_common())
    more = len(found.violations) - MOST_TOLD
    if more > 0:
        found.violations[MOST_TOLD:] = [f"… and {more} more"]
    return found


def _is_file(database: str) -> bool:
    return not database.startswith("postgresql://")


def _connected(database: str) -> Any:
    """A connection of apsw or psycopg: here both are used alike."""
    if _is_file(database):
        file = apsw.Connection(database, flags=apsw.SQLITE_OPEN_READWRITE)
        file.set_busy_timeout(10_000)
        return file
    return psycopg.connect(database, autocommit=True, options="-c search_path=offload,public")


def _integrity(connection: Any, database: str) -> str:
    if _is_file(database):
        return str(connection.execute("PRAGMA integrity_check(3)").get)
    connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public")
    try:
        connection.execute(DAMAGED).fetchall()
    except psycopg.Error as error:
        return str(error)
    return "ok"


def _jobs(connection: Any, database: str) -> dict[str, dict[str, Any]]:
    in_file = "value AS result FROM jobs LEFT JOIN results USING (seq)"
    result = in_file if _is_file(database) else "result FROM jobs"
    rows = connection.execute(
        f"SELECT id, jobs.seq AS seq, task, state, attempt, crashes, on_crash, {result}"
    )
    names = ("id", "seq", "task", "state", "attempt", "crashes", "on_crash", "result")
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def _attempts(connection: Any) -> dict[int, dict[int, tuple[str, str]]]:
    """Of each job, by number: how the attempt ended, and its error."""
    found: dict[int, dict[int, tuple[str, str]]] = defaultdict(dict)
    for seq, number, outcome, kind, message in connection.execute(
        "SELECT seq, number, outcome, error_type, error_message FROM attempts ORDER BY seq, number"
    ):
        found[seq][number] = (outcome, f"{kind}: {message}")
    return found


def _seen(connection: Any, database: str) -> dict[int, list[str]]:
    """Of each job, by number: what `watch` has had noted."""
    found: dict[int, list[str]] = defaultdict(list)
    tables = (
        "SELECT name FROM sqlite_schema"
        if _is_file(database)
        else "SELECT relname::text FROM pg_class WHERE relnamespace = 'offload'::regnamespace"
    )
    if ("seen_by_auditor",) in connection.execute(tables).fetchall():
        for seq, what in connection.execute("SELECT seq, what FROM seen_by_auditor"):
            found[seq].append(what)
    return found


def _count(
    found: Audit,
    job: dict[str, Any],
    starts: list[Start],
    attempts: dict[int, tuple[str, str]],
    accepted: bool,
) -> None:
    state = job["state"]
    if state == "running":
        found.stuck += 1
    elif state in WAITING:
        found.waiting += 1  # accepted or not: it is in the database, so somebody must run it
    elif state == "successful":
        found.done += accepted
        found.again += accepted and _was_cut(starts, attempts)
    elif accepted:
        found.failed += state == "failed"
        found.cancelled += state == "cancelled"


def _was_cut(starts: list[Start], attempts: dict[int, tuple[str, str]]) -> bool:
    """Whether it ran again without having asked for it."""
    return any(not _asked_for_it(attempts.get(start.attempt)) for start in starts[:-1])


def _asked_for_it(attempt: tuple[str, str] | None) -> bool:
    """Whether the task itself let go: for a retry, or at a checkpoint because its worker stops."""
    return attempt is not None and (attempt[0] == "RETRY" or attempt == ("INTERRUPTED", NO_ERROR))


def _restarts(starts: list[Start], log: Log) -> Iterator[float]:
    for earlier, later in pairwise(starts):
        kills = [
            kill.began for kill in log.kills[earlier.pid] if earlier.at <= kill.began <= later.at
        ]
        if kills:
            yield later.at - kills[0]


def _reason(attempts: dict[int, tuple[str, str]]) -> str:
    return attempts[max(attempts)][1] if attempts else "none given"


def _violations(
    job: dict[str, Any], starts: list[Start], log: Log, attempts: dict[int, tuple[str, str]]
) -> Iterator[str]:
    state, numbers = job["state"], [start.attempt for start in starts]
    if state == "running":
        yield "still RUNNING, and no process runs it"
    if len(set(numbers)) < len(numbers) and not _cut_between(starts, log):
        # a claim need not survive a power cut, as it can be repeated
        yield f"attempts {numbers} began: one of them was run, and not counted"
    if job["on_crash"] == "fail" and len(starts) > 1:
        yield f"must never run twice, and began {len(starts)} times"
    if state == "successful":
        yield from _violations_of_success(job, log)
    if state == "failed" and (why := _not_hit(starts, log, attempts, job["id"])):
        yield why
    for earlier, later in pairwise(starts):
        outcome, error = attempts.get(earlier.attempt, (None, ""))
        if _asked_for_it(attempts.get(earlier.attempt)):
            continue
        if not _fell_on(earlier, log, job["id"], before=later.at):
            ended = _end_of(earlier, log, job["id"])
            since = "" if ended is None else f"; it had ended {later.at - ended:.1f} s before"
            yield (
                f"attempt {earlier.attempt} in process {earlier.pid} was let go as {outcome}"
                f" ({error}), and attempt {later.attempt} began,"
                f" though its process was not killed{since}"
            )


def _violations_of_success(job: dict[str, Any], log: Log) -> Iterator[str]:
    if job["attempt"] not in [end.attempt for end in log.ends[job["id"]]]:
        yield f"SUCCESSFUL by attempt {job['attempt']}, which never came to its end"
    if job["result"] is None and job["task"].startswith(RETURNS_ITS_ATTEMPT):
        yield "SUCCESSFUL, and its result is not there"
    if job["result"] is not None and json.loads(job["result"]) != job["attempt"]:
        yield f"stale result: of attempt {job['result']}, and {job['attempt']} counts"


def _fell_on(start: Start, log: Log, job_id: str, *, before: float = math.inf) -> bool:
    """Whether the process was killed after this start, and while the job still ran in it.

    A power cut falls on everybody, also on the outcome of a job whose own process has just left.
    """
    ended = _end_of(start, log, job_id)
    return any(
        kill.ended >= start.at
        and kill.began <= before
        and (ended is None or kill.began <= ended + TOLD_WITHIN)
        for kill in (*log.kills[start.pid], *log.power_cuts)
    )


def _end_of(start: Start, log: Log, job_id: str) -> float | None:
    """When the task came to its last line, if it did."""
    return next((end.at for end in log.ends[job_id] if end.attempt == start.attempt), None)


def _not_hit(
    starts: list[Start], log: Log, attempts: dict[int, tuple[str, str]], job_id: str
) -> str | None:
    """What is wrong if the job was given up because its worker had died, and none had."""
    reason = _reason(attempts)
    if not reason.startswith("WorkerDied"):
        return None
    last = [start for start in starts if start.attempt == max(attempts)]
    hit = any(_fell_on(start, log, job_id) for start in last)
    if not last:  # a kill may come just before the first line: then it is not known of which job
        hit = any(log.kills.values())
    return None if hit else f"FAILED ({reason}), though its process was not killed"


def _was_in_cut(log: Log, job_id: str) -> bool:
    at = log.accepted_at.get(job_id, -1.0)
    return any(cut.began <= at <= cut.ended for cut in log.power_cuts)


def _cut_between(starts: list[Start], log: Log) -> bool:
    return any(starts[0].at <= cut.ended and cut.began <= starts[-1].at for cut in log.power_cuts)


if __name__ == "__main__":
    json.dump(asdict(audit(sys.argv[1], sys.argv[2])), sys.stdout)
