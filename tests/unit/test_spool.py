"""The spool by itself: private, bounded, swept, and safe from names of others' choice."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flask_offload.errors import (
    DatabaseFull,
    DatabaseReadOnly,
    EngineUnavailable,
    FileGone,
    FileTooLarge,
    PayloadError,
    SpoolFull,
)
from flask_offload.payload.spool import Spool, show_bytes

KIB = 1024


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "new" / "jobs.db-files", max_file=64 * KIB, max_total=128 * KIB)


def save(spool: Spool, content: bytes = b"x") -> str:
    return spool.save(io.BytesIO(content))


def names(spool: Spool) -> set[str]:
    return {path.name for path in spool.folder.iterdir()}


def test_nothing_is_made_before_the_first_file(spool: Spool) -> None:
    assert spool.total_bytes() == 0
    assert spool.sweep((), 0) == 0
    spool.remove(["0" * 32])
    assert not spool.folder.exists()


def test_only_the_owner_can_read(spool: Spool) -> None:
    mask = os.umask(0)
    try:
        name = save(spool)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((spool.folder / name).stat().st_mode) == 0o600


def test_names_are_random_and_contents_kept(spool: Spool) -> None:
    saved = {save(spool, str(n).encode()): n for n in range(50)}
    assert len(saved) == 50
    for name, n in saved.items():
        with spool.open(name) as file:
            assert file.read() == str(n).encode()


def test_remove(spool: Spool) -> None:
    one, two = save(spool), save(spool)
    spool.remove([one, one, "f" * 32])
    assert names(spool) == {two}
    with pytest.raises(FileGone):
        spool.open(one)


@pytest.mark.parametrize("name", ["../outside", "outside", "", ".", "..", "x" * 32, "0" * 33])
def test_other_names_are_not_touched(spool: Spool, name: str) -> None:
    save(spool)
    outside = spool.folder.parent / "outside"
    outside.write_text("x")
    inside = spool.folder / "outside"
    inside.write_text("x")
    spool.remove([name])
    spool.sweep((), -1000)
    assert outside.exists()
    assert inside.exists()
    with pytest.raises(PayloadError, match="by an invalid name"):
        spool.open(name)


def test_sweep_keeps_what_jobs_know_and_what_is_new(spool: Spool) -> None:
    known, orphan, new = save(spool), save(spool), save(spool)
    for name in (known, orphan):
        os.utime(spool.folder / name, (0, 0))
    assert spool.sweep([known], older_than=3600) == 1
    assert names(spool) == {known, new}
    assert spool.sweep([], older_than=-10) == 2
    assert names(spool) == set()


def test_limits_are_exact_and_leave_nothing(spool: Spool) -> None:
    with pytest.raises(FileTooLarge, match=r"larger than 64 KiB \(OFFLOAD_MAX_FILE\)"):
        save(spool, b"x" * (64 * KIB + 1))
    assert spool.total_bytes() == 0
    for _ in range(2):
        save(spool, b"x" * 64 * KIB)
    with pytest.raises(SpoolFull, match=r"128 KiB \(OFFLOAD_MAX_SPOOL\): answer 503"):
        save(spool, b"x")
    assert spool.total_bytes() == 128 * KIB
    assert len(names(spool)) == 2
    save(spool, b"")
    spool.remove(list(names(spool))[:1])


def test_a_large_file_is_stopped_early(spool: Spool) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            self.taken += size
            return b"x" * size

    endless = Endless()
    with pytest.raises(FileTooLarge):
        spool.save(endless)  # type: ignore[arg-type]
    assert endless.taken < 1024 * KIB
    assert names(spool) == set()


def test_a_stream_that_breaks_leaves_nothing(spool: Spool) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("the client went away")

    with pytest.raises(RuntimeError):
        spool.save(Broken())  # type: ignore[arg-type]
    assert names(spool) == set()


def test_durable_files_are_synced_before_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(status.st_mode), status.st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    spool = Spool(tmp_path / "a", max_file=KIB, max_total=KIB, durable=True)
    save(spool, b"four")
    assert [folder for folder, _ in synced] == [True, False, True]  # its parent, file, folder
    assert synced[1] == (False, 4)  # all of it had reached the kernel
    synced.clear()
    save(spool)
    assert [folder for folder, _ in synced] == [False, True]
    synced.clear()
    save(Spool(tmp_path / "b", max_file=KIB, max_total=KIB, durable=False))
    assert synced == []


def test_a_full_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_full(path: str, flags: int) -> int:
        return os.open("/dev/full", os.O_WRONLY)  # Linux's disk that is always full

    monkeypatch.setattr("flask_offload.payload.spool._private", open_full)
    with pytest.raises(DatabaseFull, match=r"no room for the file in .*-files: make room"):
        save(spool)


def test_folders_that_can_not_be_written(tmp_path: Path) -> None:
    read_only = Spool("/sys/jobs.db-files", max_file=KIB, max_total=KIB)  # for root, too
    with pytest.raises(DatabaseReadOnly, match=r"be written to /sys/jobs\.db-files: correct"):
        save(read_only)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(EngineUnavailable, match="the file can't be copied to"):
        save(Spool(blocked / "files", max_file=KIB, max_total=KIB))


PROGRAM = """
import io, sys
from flask_offload.payload.spool import Spool
Spool(sys.argv[1], max_file=1 << 30, max_total=1 << 30).save(io.BytesIO(b"abc"))
"""


@pytest.mark.processes
def test_many_threads_and_processes(spool: Spool) -> None:
    def work() -> None:
        for _ in range(20):
            name = save(spool, b"abc")
            spool.total_bytes()
            with spool.open(name) as file:
                assert file.read() == b"abc"
            spool.remove([name])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    subprocess.run([sys.executable, "-c", PROGRAM, str(spool.folder)], check=True)
    for thread in threads:
        thread.join()
    assert len(names(spool)) == 1


def test_an_open_file_closes_itself(spool: Spool) -> None:
    name = save(spool)
    file = spool.open(name)
    descriptor = file.fileno()
    del file  # without a ResourceWarning, which would fail this test
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_sizes_as_people_read_them() -> None:
    assert [show_bytes(n) for n in (0, 1023, 1024, 1536, 1 << 20, 3 << 30)] == [
        "0 bytes",
        "1023 bytes",
        "1 KiB",
        "1.5 KiB",
        "1 MiB",
        "3 GiB",
    ]
