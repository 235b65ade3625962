"""The folder next to the database that holds uploaded files until their job has ended."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import (
    DatabaseFull,
    DatabaseReadOnly,
    EngineUnavailable,
    FileGone,
    FileTooLarge,
    ForeignFolder,
    PayloadError,
    PayloadTooLarge,
    SpoolFull,
)
from .private_folder import make_private

_NAME = re.compile(r"[0-9a-f]{32}")
BLOCK = 4096
"""Bytes that a file takes on a disk at least: max_total bounds the number of files, too."""
FEWEST = 1000
"""Files for which there is room, however small max_total is."""
MAX_FILES = 100
"""Uploaded files of one call; more are an attack, or an archive in the wrong form."""
CHUNK = 256 * 1024
"""Bytes of a file that are in memory at once."""


class Spool:
    """Copies of uploaded files, readable by their owner only, under random names.

    folder: created for the first file, mode 0700.
    max_file, max_total: bytes of one file, and of all together. Files that are saved at the same
        time don't see each other, so together they may exceed max_total once.
    durable: fsync each file and the folder, so that a file is as durable as its job.

    The methods may be called from any thread and process.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, max_file: int, max_total: int, durable: bool = True
    ) -> None:
        self.folder: Path = Path(folder)
        self.max_file = max_file
        self.max_total = max_total
        self.durable = durable

    def batch(self) -> FileBatch:
        """The files of one call, which are saved together."""
        return FileBatch(self)

    def save(self, stream: BinaryIO) -> str:
        """Copy the rest of a stream; returns the copy's name. Raises what FileBatch.save()
        raises."""
        batch = self.batch()
        name = batch.save(stream)
        batch.finish()
        return name

    def open(self, name: str) -> BinaryIO:
        """A copy, opened for reading. Raises FileGone, or PayloadError for an invalid name."""
        if type(name) is not str or not _NAME.fullmatch(name):
            raise PayloadError("it holds an uploaded file by an invalid name")
        try:
            return _Reader(io.FileIO(self.folder / name, opener=_without_links))
        except FileNotFoundError:
            raise FileGone(
                f"the uploaded file {name} is no longer in {self.folder}: the job ended before, or"
                " it was removed"
            ) from None

    def remove(self, names: Iterable[str]) -> None:
        """Delete copies. Missing ones are ignored; one that can't be deleted now is left to
        sweep()."""
        for name in names:
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()

    def sweep(self, known: Collection[str], older_than: float) -> int:
        """Delete copies without a job, left by a process that died before it enqueued.

        known: the names that jobs refer to.
        older_than: seconds since the last write; keeps files whose job is about to be enqueued.
        Returns the number of deleted files.
        """
        known = frozenset(known)
        limit = time.time() - older_than
        swept = 0
        for entry in self._entries():
            with contextlib.suppress(OSError):
                if entry.name not in known and entry.stat(follow_symlinks=False).st_mtime < limit:
                    Path(entry).unlink()
                    swept += 1
        return swept

    def total_bytes(self) -> int:
        """The size of all copies."""
        return self.usage()[0]

    def usage(self) -> tuple[int, int]:
        """The size of all copies, and their number."""
        total = count = 0
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
                count += 1
        return total, count

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as entries:
                yield from (entry for entry in entries if _NAME.fullmatch(entry.name))
        except FileNotFoundError:
            return

    def _make_folder(self) -> None:
        is_new = not self.folder.exists()
        make_private(self.folder)
        if is_new and self.durable:
            _sync_folder(self.folder.parent)

    def _write(self, stream: BinaryIO, name: str, available: int) -> int:
        with open(self.folder / name, "xb", opener=_private) as copy:
            try:
                size = self._copy(stream, copy, available)
                copy.flush()
                if self.durable:
                    os.fsync(copy.fileno())
            except BaseException:
                self.remove([name])
                raise
        return size

    def _copy(self, stream: BinaryIO, copy: BinaryIO, available: int) -> int:
        size = 0
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > self.max_file:
                raise FileTooLarge(
                    f"the file is larger than {show_bytes(self.max_file)} (OFFLOAD_MAX_FILE): raise"
                    " that, or store the file yourself and pass its path"
                )
            if size > available:
                raise self._full()
            copy.write(chunk)
        return size

    def _full(self) -> SpoolFull:
        return SpoolFull(
            f"there is no room for the file in {self.folder}, where the files of waiting jobs may"
            f" take {show_bytes(self.max_total)} (OFFLOAD_MAX_SPOOL): answer 503 until some are"
            " done, or raise it"
        )

    def _unavailable(self, error: OSError) -> EngineUnavailable:
        if isinstance(error, ForeignFolder):
            return error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DatabaseFull(f"the disk has no room for the file in {self.folder}: make room")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return DatabaseReadOnly(
                f"the file can't be written to {self.folder}: correct the folder's permissions"
            )
        return EngineUnavailable(f"the file can't be copied to {self.folder}: {error}")


class FileBatch:
    """The files of one call: one look at the space that is left, one sync of the folder."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._available: int | None = None
        self._left = 0
        self._count = 0

    def save(self, stream: BinaryIO) -> str:
        """Copy the rest of a stream; returns the copy's name.

        Raises PayloadTooLarge for more than MAX_FILES, FileTooLarge, SpoolFull, DatabaseFull,
        DatabaseReadOnly or EngineUnavailable, and then does not keep this file.
        """
        spool, name = self._spool, os.urandom(16).hex()
        if self._count == MAX_FILES:
            raise PayloadTooLarge(
                f"it holds more than {MAX_FILES} uploaded files: pass an archive, or store them"
                " yourself and pass their paths"
            )
        try:
            if self._available is None:
                spool._make_folder()
                size, count = spool.usage()
                self._available = spool.max_total - size
                self._left = max(FEWEST, spool.max_total // BLOCK) - count
            if self._left <= 0:
                raise spool._full()
            self._left -= 1
            self._available -= spool._write(stream, name, self._available)
        except OSError as error:
            raise spool._unavailable(error) from error
        self._count += 1
        return name

    def finish(self) -> None:
        """Make the names as durable as the files."""
        if self._count and self._spool.durable:
            try:
                _sync_folder(self._spool.folder)
            except OSError as error:
                raise self._spool._unavailable(error) from error


class _Reader(io.BufferedReader):
    """Closed with the job's arguments, which own it, without a ResourceWarning."""

    def __del__(self) -> None:
        self.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def show_bytes(size: int) -> str:
    """A size with its unit: "1 MiB"."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
