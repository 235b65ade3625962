"""The folder next to the database where uploaded files wait for their job."""

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
    PayloadError,
    SpoolFull,
)

_NAME = re.compile(r"[0-9a-f]{32}")
CHUNK = 256 * 1024
"""Bytes of a file that are in memory at once."""


class Spool:
    """Copies of uploaded files, readable by their owner alone, under names that nobody chose.

    folder: made when the first file comes, mode 0700.
    max_file, max_total: bytes of one file, and of all together. Files that are saved at the very
        same moment don't see each other, so together they may pass max_total once.
    durable: fsync each file and the folder, so that it survives what its job survives.

    The methods may be called from any thread and process.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, max_file: int, max_total: int, durable: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.max_file = max_file
        self.max_total = max_total
        self.durable = durable

    def save(self, stream: BinaryIO) -> str:
        """Copy what is left of a stream; gives the copy's name.

        Raises FileTooLarge, SpoolFull, DatabaseFull, DatabaseReadOnly or EngineUnavailable, and
        then leaves nothing behind.
        """
        name = os.urandom(16).hex()
        try:
            self._make_folder()
            self._write(stream, name, room=self.max_total - self.total_bytes())
        except OSError as error:
            raise self._unavailable(error) from error
        return name

    def open(self, name: str) -> BinaryIO:
        """A copy, opened for reading. Raises FileGone, or PayloadError for what is no name."""
        if type(name) is not str or not _NAME.fullmatch(name):
            raise PayloadError("it holds an uploaded file by a name that no spool gives")
        try:
            return _Reader(io.FileIO(self.folder / name, opener=_without_links))
        except FileNotFoundError:
            raise FileGone(
                f"the uploaded file {name} is no longer in {self.folder}: the job ended before, or"
                " somebody removed it"
            ) from None

    def remove(self, names: Iterable[str]) -> None:
        """Delete copies. What is gone already does not matter, nor what can't be deleted now:
        sweep() will find it."""
        for name in names:
            if _NAME.fullmatch(name):
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()

    def sweep(self, known: Collection[str], older_than: float) -> int:
        """Delete copies that no job knows, left by a process that died before it enqueued.

        known: the names that jobs hold.
        older_than: seconds since the last write; keeps files whose job is about to be enqueued.
        Gives the number of deleted files.
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
        """What all copies take."""
        total = 0
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
        return total

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.folder) as entries:
                yield from (entry for entry in entries if _NAME.fullmatch(entry.name))
        except FileNotFoundError:
            return

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if self.durable:
                _sync_folder(self.folder.parent)

    def _write(self, stream: BinaryIO, name: str, room: int) -> None:
        with open(self.folder / name, "xb", opener=_private) as copy:
            try:
                self._copy(stream, copy, room)
                copy.flush()
                if self.durable:
                    os.fsync(copy.fileno())
                    _sync_folder(self.folder)
            except BaseException:
                self.remove([name])
                raise

    def _copy(self, stream: BinaryIO, copy: BinaryIO, room: int) -> None:
        size = 0
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            if size > self.max_file:
                raise FileTooLarge(
                    f"the file is larger than {show_bytes(self.max_file)} (OFFLOAD_MAX_FILE): raise"
                    " that, or store the file yourself and pass its path"
                )
            if size > room:
                raise SpoolFull(
                    f"there is no room for the file in {self.folder}, where the files of waiting"
                    f" jobs may take {show_bytes(self.max_total)} (OFFLOAD_MAX_SPOOL): answer 503"
                    " until some are done, or raise it"
                )
            copy.write(chunk)

    def _unavailable(self, error: OSError) -> EngineUnavailable:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DatabaseFull(f"the disk has no room for the file in {self.folder}: make room")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return DatabaseReadOnly(
                f"the file can't be written to {self.folder}: mend the folder's permissions"
            )
        return EngineUnavailable(f"the file can't be copied to {self.folder}: {error}")


class _Reader(io.BufferedReader):
    """Closes itself without a ResourceWarning: the job's arguments own it, and let go of it."""

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
    """A size as people read it: "1 MiB"."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
