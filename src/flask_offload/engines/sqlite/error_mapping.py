"""Errors of SQLite and of the system as Flask-Offload's own, with what to do about them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import apsw

from ...errors import (
    DatabaseCorrupt,
    DatabaseFull,
    DatabaseLocked,
    DatabaseReadOnly,
    DiskError,
    EngineUnavailable,
    TooManyFiles,
)
from ..processes import is_stopped
from .lock_owner import described, write_lock_owner

BUG = (
    apsw.ConstraintError,
    apsw.SQLError,
    apsw.MismatchError,
    apsw.MisuseError,
    apsw.BindingsError,
)
"""Errors that are not about the file: a statement of Flask-Offload is wrong."""

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_FOLDER = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}
FILES_PER_CONNECTION = 3


def locked(path: Path, seconds: float) -> DatabaseLocked:
    """The error of a wait for the write lock that took too long; it names the lock's owner."""
    owner = write_lock_owner(path)
    who, remedy = "another program", "wait until it releases the lock, or end it"
    if owner == os.getpid():
        who = "another thread of this process"
    elif owner is not None:
        who = described(owner)
        if is_stopped(owner):
            remedy = f"let it continue (kill -CONT {owner}), or end it"
    return DatabaseLocked(f"{who} has kept {path} locked for {seconds:g} s: {remedy}")


def explain(
    error: BaseException, path: Path, connection: apsw.Connection | None
) -> EngineUnavailable:
    """An error of SQLite or of the system as one of Flask-Offload's."""
    number = getattr(error, "errno", None)
    if isinstance(error, apsw.IOError | apsw.CantOpenError) and connection is not None:
        number = connection.system_errno
    if isinstance(error, apsw.FullError) or number in NO_SPACE:
        return DatabaseFull(f"no space left on the disk of {path}: free some and try again")
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return DatabaseCorrupt(
            f"{path} is not a usable job database ({error}):"
            " restore a backup, or move it away to start with a new one"
        )
    cannot_open = isinstance(error, apsw.CantOpenError)
    if number in NO_DESCRIPTORS or (cannot_open and _no_descriptors_left()):
        return TooManyFiles(
            f"this process has too many files open to open {path}: raise its limit (ulimit -n, or"
            " LimitNOFILE= of systemd), or find what leaves files open"
        )
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError) or number in NO_PERMISSION:
        return DatabaseReadOnly(
            f"{path} can't be opened for writing ({error}): fix the permissions of the file"
            " and of its folder, or set OFFLOAD_SQLITE_PATH"
        )
    if cannot_open or number in NO_FOLDER:
        return DatabaseReadOnly(
            f"{path} can't be opened ({error}): see that its folder is one, exists and can be"
            " written, or set OFFLOAD_SQLITE_PATH"
        )
    if isinstance(error, apsw.IOError | OSError):
        return DiskError(
            f"the disk of {path} reports an error ({error}): look into the system's log."
            " Nothing was done"
        )
    return EngineUnavailable(f"the job database {path} can't be used just now: {error}")


def _no_descriptors_left() -> bool:
    """Whether no descriptors were left for a connection, which SQLite does not report."""
    opened = []
    try:
        for _ in range(FILES_PER_CONNECTION):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in NO_DESCRIPTORS
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False
