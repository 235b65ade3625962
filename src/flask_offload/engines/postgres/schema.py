"""The tables of the job database in a PostgreSQL schema of their own, and how an older one becomes
today's.

As in SQLite, `state` is the public status with READY split by what the job waits for. Large
arguments and results stay in the job's row: PostgreSQL stores them beside the table (TOAST), and an
update that leaves them alone does not copy them.

In these statements, as in all others of this engine, `offload.` stands for the configured schema.
"""

from __future__ import annotations

from ...errors import DatabaseTooNew, EngineUnavailable
from ..counters import POSTGRES_TABLE
from .connection import PgConnection

VERSION_1 = """
CREATE TABLE offload.jobs (
    seq bigint PRIMARY KEY,            -- age: the order within a priority
    secret text NOT NULL,              -- the part of the id that can't be guessed
    id text GENERATED ALWAYS AS (lpad(to_hex(seq), 12, '0') || secret) STORED,
    task text NOT NULL,
    queue_name text NOT NULL,
    lane text NOT NULL,                -- where in a worker it runs
    priority integer NOT NULL,
    state text NOT NULL,
    attempt integer NOT NULL DEFAULT 0,   -- with `worker` the fence of every write of a worker
    failures integer NOT NULL DEFAULT 0,  -- attempts that count against max_attempts
    crashes integer NOT NULL DEFAULT 0,   -- attempts whose process died
    cancel integer NOT NULL DEFAULT 0,    -- 1: asked to stop, 2: to be stopped by force
    worker text,
    on_crash text NOT NULL,
    origin text NOT NULL,
    owner text,
    enqueued_at float8 NOT NULL,
    run_after float8,
    started_at float8,
    finished_at float8,
    expires_at float8,                 -- when retention deletes it; set when it finishes
    done float8,
    total float8,
    message text,
    cursor text,                       -- where a resumable task goes on
    unique_key text,
    concurrency_key text,
    rate_key text,
    context text,                      -- what was carried over from the request
    args text NOT NULL,
    result text,
    result_expires_at float8
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- Each is partial, so that a job is in few of them at a time: a waiting one in exactly one.
CREATE INDEX jobs_scheduled ON offload.jobs (run_after) WHERE state = 'scheduled';
CREATE INDEX jobs_blocked ON offload.jobs (concurrency_key, priority DESC, seq)
    WHERE state = 'blocked';
CREATE INDEX jobs_throttled ON offload.jobs (rate_key, priority DESC, seq)
    WHERE state = 'throttled';
CREATE INDEX jobs_ready ON offload.jobs (lane, queue_name, priority DESC, seq)
    WHERE state = 'ready';
CREATE INDEX jobs_running ON offload.jobs (worker) WHERE state = 'running';
CREATE INDEX jobs_finished ON offload.jobs (state, seq)
    WHERE state IN ('cancelled', 'failed', 'successful');
CREATE INDEX jobs_expiring ON offload.jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX jobs_results_expiring ON offload.jobs (result_expires_at)
    WHERE result_expires_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_by_unique_key ON offload.jobs (unique_key)
    WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_by_concurrency ON offload.jobs (concurrency_key, state)
    WHERE concurrency_key IS NOT NULL;
CREATE INDEX jobs_by_rate ON offload.jobs (rate_key, state) WHERE rate_key IS NOT NULL;

CREATE SEQUENCE offload.jobs_seq OWNED BY offload.jobs.seq;
-- Numbers begin with the clock, as SQLite's do, so that they do not count the jobs.
SELECT setval('offload.jobs_seq', (extract(epoch FROM clock_timestamp()) * 65536)::bigint);
ALTER TABLE offload.jobs ALTER COLUMN seq SET DEFAULT nextval('offload.jobs_seq');

-- attempts that did not simply succeed; the job's row holds the current or successful one
CREATE TABLE offload.attempts (
    seq bigint NOT NULL,
    number integer NOT NULL,
    worker text,
    started_at float8,
    finished_at float8,
    outcome text NOT NULL,
    error_type text,
    error_message text,
    traceback text,
    PRIMARY KEY (seq, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE offload.queues (name text PRIMARY KEY, paused_at float8);

CREATE TABLE offload.limits (
    kind text NOT NULL,                -- 'concurrency' or 'rate'
    key text NOT NULL,
    count integer NOT NULL,            -- jobs at once, or starts in a window
    "window" float8,                   -- seconds, for rates
    wake_at float8,                    -- when a rate has room again, if jobs wait for it
    PRIMARY KEY (kind, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX limits_waking ON offload.limits (wake_at) WHERE wake_at IS NOT NULL;
CREATE TABLE offload.starts (          -- what rates count
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rate_key text NOT NULL,
    at float8 NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX starts_by_key ON offload.starts (rate_key, at);

CREATE TABLE offload.schedules (
    name text PRIMARY KEY,
    task text NOT NULL,
    description text NOT NULL,
    last_at float8 NOT NULL,           -- ticks up to here are dealt with
    last_fire float8,                  -- the newest tick that became a job
    last_job text,
    next_at float8
);

CREATE TABLE offload.workers (
    id text PRIMARY KEY,
    pid integer NOT NULL,
    host text NOT NULL,
    boot text NOT NULL,                -- which run of the machine
    kind text NOT NULL,                -- 'kept', 'command', 'thread' or 'test'
    queues text,                       -- JSON list, NULL: all
    capacity integer NOT NULL,
    started_at float8 NOT NULL,
    stopping boolean NOT NULL DEFAULT false
);

CREATE TABLE offload.meta (version integer NOT NULL);
INSERT INTO offload.meta VALUES (1);
"""

VERSION_2 = """
ALTER TABLE offload.jobs
    ADD COLUMN options text,           -- JSON: what using() set for this job alone
    ADD COLUMN enqueued_by text;       -- JSON: route, user and trace id of the request
ALTER TABLE offload.schedules ADD COLUMN disabled_at float8;
ALTER TABLE offload.workers ADD COLUMN stop_asked boolean NOT NULL DEFAULT false;
CREATE INDEX jobs_by_owner ON offload.jobs (owner, seq) WHERE owner IS NOT NULL;

-- results of `current_job.once`
CREATE TABLE offload.steps (
    seq bigint NOT NULL,
    name text NOT NULL,
    value text NOT NULL,               -- JSON
    PRIMARY KEY (seq, name)
);

CREATE TABLE offload.logs (            -- log lines of each attempt
    seq bigint NOT NULL,
    attempt integer NOT NULL,
    lines text NOT NULL,
    PRIMARY KEY (seq, attempt)
);

ALTER TABLE offload.jobs ADD COLUMN given_id text;  -- the id of a job that came from an outbox
CREATE UNIQUE INDEX jobs_by_given_id ON offload.jobs (given_id) WHERE given_id IS NOT NULL;
CREATE TABLE offload.relayed (         -- ids that came from an outbox: none becomes a job twice
    id text PRIMARY KEY,
    expires_at float8 NOT NULL
);
CREATE INDEX relayed_expiring ON offload.relayed (expires_at);

CREATE TABLE offload.failing (         -- tasks of which no job has succeeded since one failed
    task text PRIMARY KEY,
    failed_jobs bigint NOT NULL        -- since then
);
"""

ADDED_TABLES = ("steps", "logs")
"""Side tables that version 1 does not know: it deletes jobs without their rows in these."""

SIDE_TABLES = ("attempts", *ADDED_TABLES)
"""Tables whose rows go with their job's, by `seq`."""

MIGRATIONS = {1: VERSION_1, 2: VERSION_2 + POSTGRES_TABLE}
"""What takes a database from the version before to this one. Never edit one that was released."""

GENERATION = 1000
"""Versions of the same thousand only add, as those of the SQLite store do."""

HAS_TABLES = "SELECT to_regclass('offload.meta') IS NOT NULL"
MIGRATION_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('flask_offload migrate', 0))"


def is_current(connection: PgConnection) -> bool:
    """Whether the tables are there, in today's version or a later one that this release can use.
    Raises DatabaseTooNew."""
    version = _version(connection)
    if version // GENERATION > max(MIGRATIONS) // GENERATION:
        raise DatabaseTooNew(
            f"the job database has version {version}, this Flask-Offload knows"
            f" {max(MIGRATIONS)}: upgrade this installation, or set another"
            " OFFLOAD_POSTGRES_SCHEMA"
        )
    return version >= max(MIGRATIONS)


def migrate(connection: PgConnection) -> None:
    """Bring the database to today's version, inside a transaction of the caller. One process at a
    time; the others then find it done. Raises as is_current."""
    connection.execute(MIGRATION_LOCK)
    if is_current(connection):
        return
    version = _version(connection)
    if not version:
        _check_empty(connection)
        connection.create_schema()
    for number in sorted(number for number in MIGRATIONS if number > version):
        connection.script(MIGRATIONS[number])
    connection.execute("UPDATE offload.meta SET version = %s", (max(MIGRATIONS),))


def _version(connection: PgConnection) -> int:
    if not connection.value(HAS_TABLES):
        return 0
    return int(connection.value("SELECT version FROM offload.meta"))


def _check_empty(connection: PgConnection) -> None:
    """Raise EngineUnavailable where another program has a table of one of our names."""
    if connection.value("SELECT to_regclass('offload.jobs') IS NOT NULL"):
        raise EngineUnavailable(
            f"the schema {connection.schema!r} has a table 'jobs' of another program: set"
            " OFFLOAD_POSTGRES_SCHEMA to a name of its own"
        )
