"""The tables of the job database, and how an older one becomes today's.

A job's row is small and moves often; what is large or rare (big arguments, results, tracebacks)
is in side tables, so that moving the row costs the same whatever it carries.

`state` is the public status with READY split by what the job waits for:
scheduled (its time) -> blocked (its concurrency key) -> throttled (its rate key) -> ready.
"""

from __future__ import annotations

import apsw

from ...errors import DatabaseCorrupt, DatabaseTooNew
from ..counters import SQLITE_TABLE

APPLICATION_ID = 0x0FF10AD

VERSION_1 = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,           -- age, see rows.NEXT_SEQ: the order within a priority
    secret TEXT NOT NULL,              -- the part of the id that can't be guessed
    id TEXT AS (format('%012x', seq) || secret) VIRTUAL,  -- contains seq: it needs no index
    task TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    lane TEXT NOT NULL,                -- where in a worker it runs
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,   -- with `worker` the fence of every write of a worker
    failures INTEGER NOT NULL DEFAULT 0,  -- attempts that count against max_attempts
    crashes INTEGER NOT NULL DEFAULT 0,   -- attempts whose process died
    cancel INTEGER NOT NULL DEFAULT 0,    -- 1: asked to stop, 2: to be stopped by force
    worker TEXT,
    on_crash TEXT NOT NULL,
    origin TEXT NOT NULL,
    owner TEXT,
    enqueued_at REAL NOT NULL,
    run_after REAL,
    started_at REAL,
    finished_at REAL,
    expires_at REAL,                   -- when retention lets it go; set when it finishes
    done REAL,
    total REAL,
    message TEXT,
    cursor TEXT,                       -- where a resumable task goes on
    unique_key TEXT,
    concurrency_key TEXT,
    rate_key TEXT,
    context TEXT,                      -- what was carried over from the request
    args TEXT                          -- NULL: large, see payloads
) STRICT;

-- Each is partial, so that a job is in few of them at a time: a waiting one in exactly one.
CREATE INDEX jobs_scheduled ON jobs (run_after, queue_name) WHERE state = 'scheduled';
CREATE INDEX jobs_blocked ON jobs (concurrency_key, priority DESC, seq, queue_name)
    WHERE state = 'blocked';
CREATE INDEX jobs_throttled ON jobs (rate_key, priority DESC, seq, queue_name)
    WHERE state = 'throttled';
CREATE INDEX jobs_ready ON jobs (lane, queue_name, priority DESC, seq) WHERE state = 'ready';
CREATE INDEX jobs_running ON jobs (worker, queue_name) WHERE state = 'running';
CREATE INDEX jobs_cancelling ON jobs (worker) WHERE state = 'running' AND cancel > 0;
CREATE INDEX jobs_finished ON jobs (state, seq)
    WHERE state IN ('cancelled', 'failed', 'successful');
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_by_unique_key ON jobs (unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_by_concurrency ON jobs (concurrency_key, state)
    WHERE concurrency_key IS NOT NULL;
CREATE INDEX jobs_by_rate ON jobs (rate_key, state) WHERE rate_key IS NOT NULL;

CREATE TABLE payloads (seq INTEGER PRIMARY KEY, args TEXT NOT NULL) STRICT;
CREATE TABLE results (seq INTEGER PRIMARY KEY, value TEXT NOT NULL, expires_at REAL) STRICT;
CREATE INDEX results_expiring ON results (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE files (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_job ON files (seq);

-- attempts that did not simply succeed; the current or successful one is in the job's row
CREATE TABLE attempts (
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    worker TEXT,
    started_at REAL,
    finished_at REAL,
    outcome TEXT NOT NULL,
    error_type TEXT,
    error_message TEXT,
    traceback TEXT,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE queues (name TEXT PRIMARY KEY, paused_at REAL) STRICT, WITHOUT ROWID;

CREATE TABLE limits (
    kind TEXT NOT NULL,                -- 'concurrency' or 'rate'
    key TEXT NOT NULL,
    count INTEGER NOT NULL,            -- jobs at once, or starts in a window
    window REAL,                       -- seconds, for rates
    wake_at REAL,                      -- when a rate has capacity again, if jobs wait for it
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX limits_waking ON limits (wake_at) WHERE wake_at IS NOT NULL;
CREATE TABLE starts (rate_key TEXT NOT NULL, at REAL NOT NULL) STRICT;  -- what rates count
CREATE INDEX starts_by_key ON starts (rate_key, at);

CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    description TEXT NOT NULL,
    last_at REAL NOT NULL,             -- ticks up to here are dealt with
    last_fire REAL,                    -- the newest tick that became a job
    last_job TEXT,
    next_at REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,                -- which run of the machine, as slots files do not outlive it
    kind TEXT NOT NULL,                -- 'kept', 'command' or 'thread'
    queues TEXT,                       -- JSON list, NULL: all
    capacity INTEGER NOT NULL,
    started_at REAL NOT NULL,
    stopping INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
"""

VERSION_2 = """
ALTER TABLE jobs ADD COLUMN options TEXT;      -- JSON: what using() set for this job alone
ALTER TABLE jobs ADD COLUMN enqueued_by TEXT;  -- JSON: route, user and trace id of the request
ALTER TABLE schedules ADD COLUMN disabled_at REAL;
ALTER TABLE workers ADD COLUMN stop_asked INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_by_owner ON jobs (owner, seq) WHERE owner IS NOT NULL;

-- results of `current_job.once`
CREATE TABLE steps (
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,               -- JSON
    PRIMARY KEY (seq, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (                    -- log lines of each attempt
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lines TEXT NOT NULL,
    PRIMARY KEY (seq, attempt)
) STRICT;

ALTER TABLE jobs ADD COLUMN given_id TEXT;  -- the id of a job that came from an outbox
CREATE UNIQUE INDEX jobs_by_given_id ON jobs (given_id) WHERE given_id IS NOT NULL;
CREATE TABLE relayed (                 -- ids that came from an outbox: none becomes a job twice
    id TEXT PRIMARY KEY,
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX relayed_expiring ON relayed (expires_at);

CREATE TABLE failing (                 -- tasks of which no job has succeeded since one failed
    task TEXT PRIMARY KEY,
    failed_jobs INTEGER NOT NULL       -- since then
) STRICT, WITHOUT ROWID;
"""

ADDED_TABLES = ("steps", "logs")
"""Side tables that version 1 does not know: it deletes jobs without their rows in these."""

SIDE_TABLES = ("payloads", "results", "attempts", *ADDED_TABLES)
"""Tables whose rows go with their job's, by `seq`."""

MIGRATIONS = {1: VERSION_1, 2: VERSION_2 + SQLITE_TABLE}
"""What takes a database from the version before to this one. Never edit one that was released."""

GENERATION = 1000
"""Versions of the same thousand only add: code of an older one works on with the newer database, so
that a deploy harms no old worker and can be taken back. What older code could not live with, such
as a new state, begins the next thousand. What to heed: docs/decisions/database-versions.md."""


def check_application(connection: apsw.Connection) -> bool:
    """Whether the file is empty yet. Raises DatabaseCorrupt for another program's database, and
    DatabaseTooNew for a later generation."""
    if not connection.execute("SELECT count(*) FROM sqlite_schema").get:
        return True
    if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
        raise DatabaseCorrupt(
            f"{connection.filename} is the database of another program:"
            " set OFFLOAD_SQLITE_PATH to a file of its own"
        )
    version = _version(connection)
    newest = max(MIGRATIONS)
    if version // GENERATION > newest // GENERATION:
        raise DatabaseTooNew(
            f"the job database has version {version}, this Flask-Offload knows"
            f" {newest}: upgrade this installation, or set another OFFLOAD_SQLITE_PATH"
        )
    return False


def migrate(connection: apsw.Connection) -> None:
    """Bring the database to today's version, in one transaction. Raises as check_application."""
    newest = max(MIGRATIONS)
    if _version(connection) >= newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        check_application(connection)  # again: another process may have been faster
        version = _version(connection)
        for number in sorted(number for number in MIGRATIONS if number > version):
            connection.execute(MIGRATIONS[number])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {max(version, newest)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: apsw.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").get)
