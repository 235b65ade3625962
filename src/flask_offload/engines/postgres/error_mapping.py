"""PostgreSQL's errors as this package's, each a sentence that says what to do."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from ...errors import (
    ConfigError,
    DatabaseFull,
    DatabaseGone,
    DatabaseLocked,
    DatabaseReadOnly,
    EngineUnavailable,
    PayloadError,
)

NO_TABLES: Final = (errors.UndefinedTable, errors.InvalidSchemaName)
READ_ONLY: Final = (errors.ReadOnlySqlTransaction,)
FULL: Final = (errors.DiskFull, errors.OutOfMemory)
LOCKED: Final = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected)


def place_of(url: str) -> str:
    """The server and database of a URL in words, without user and password."""
    parts = conninfo_to_dict(url)
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"{host}{port}/{parts.get('dbname') or parts.get('user') or ''}"


def driver_url(url: str) -> str:
    """The URL as libpq takes it: without SQLAlchemy's driver suffix. Raises ConfigError."""
    scheme, separator, rest = url.partition("://")
    if separator:
        if scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ConfigError(
                "OFFLOAD_POSTGRES_URL can't be used: it takes a URL such as"
                " postgresql://user@host/database"
            )
        url = f"postgresql://{rest}"
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "OFFLOAD_POSTGRES_URL can't be used: it takes a URL such as"
            " postgresql://user@host/database"
        ) from None
    return url


def explain(error: psycopg.Error, place: str) -> Exception:
    """An error of psycopg as one of this package; a statement of this package that is wrong comes
    back as it is."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, NO_TABLES):
        return DatabaseGone(
            f"the job tables in {place} are gone ({text}): run `flask offload migrate`"
        )
    if isinstance(error, READ_ONLY):
        return DatabaseReadOnly(
            f"{place} is read-only ({text}): connect to the primary, or end what made it so"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return DatabaseReadOnly(
            f"the role may not do this in {place} ({text}): run `flask offload migrate` with a role"
            " that may create tables, and grant this one the rights in docs/postgres.md"
        )
    if isinstance(error, FULL):
        return DatabaseFull(
            f"the server of {place} has no room left ({text}): make room on its disk, or run"
            " `flask offload prune`"
        )
    if isinstance(error, LOCKED):
        return DatabaseLocked(f"another transaction holds the job tables of {place} ({text})")
    if isinstance(error, errors.TooManyConnections):
        return EngineUnavailable(
            f"{place} has no connection left ({text}): raise max_connections, or use a pooler"
        )
    if isinstance(error, errors.DataError | psycopg.DataError):
        return PayloadError(f"PostgreSQL can't store this: {text}")
    if any(part in text for part in ("authentication failed", "no pg_hba.conf entry")):
        return EngineUnavailable(
            f"the server of {place} refuses the role or its password ({text}): correct"
            " OFFLOAD_POSTGRES_URL, or the server's roles and pg_hba.conf"
        )
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return EngineUnavailable(
            f"PostgreSQL at {place} can't be used ({text or type(error).__name__}); try again later"
        )
    return error
