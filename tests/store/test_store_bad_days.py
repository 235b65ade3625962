"""Bad days: each failure has an error of its own, loses nothing that was accepted, and is over when
its cause is gone, without a restart."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest
from test_store_processes import started

from flask_offload.engines.sqlite import filesystem
from flask_offload.engines.sqlite.maintenance import is_intact
from flask_offload.engines.sqlite.schema import APPLICATION_ID, GENERATION, MIGRATIONS
from flask_offload.errors import (
    DatabaseCorrupt,
    DatabaseFull,
    DatabaseGone,
    DatabaseLocked,
    DatabaseReadOnly,
    DatabaseTooNew,
    DiskError,
    EngineUnavailable,
    NetworkFilesystem,
    TooManyFiles,
)
from flask_offload.jobs.job import JobRecord, JobStatus
from store_support import Store, outcome
from support import missing, require_tool

needs_root = os.geteuid() != 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path, busy_timeout=0.3)) as made:
        yield made


def refused(store: Store, error: type[EngineUnavailable], words: str) -> None:
    """An enqueue meets this error, and names the file."""
    with pytest.raises(error, match=words) as caught:
        store.enqueue()
    assert type(caught.value) is error
    assert str(store.path.name) in str(caught.value) or error is NetworkFilesystem


def works_with(store: Store, *accepted: JobRecord) -> None:
    """Everything that was accepted is there, and more can be."""
    for record in accepted:
        assert store.get(record).id == record.id
    more = store.enqueue()
    ready = {record.id for record in (*accepted, more)}
    assert {claim.id for claim in store.worker().claim(1000)} == ready
    assert is_intact(store.engine) == []


# --- locks ---------------------------------------------------------------------------------------


@pytest.mark.processes
def test_locked_by_another_process(store: Store) -> None:
    accepted = store.enqueue()
    with started("hold", str(store.path)) as holder:
        refused(store, DatabaseLocked, f"process {holder.pid} .* has kept .* locked for 0.3 s")
        assert store.get(accepted) == accepted, "reading goes on"
    works_with(store, accepted)


# --- space ---------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A mount that lasts as long as the block; skipped visibly where one can't be made."""
    if needs_root:
        missing("only root can mount")
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if made.returncode:
        missing(f"mount {' '.join(options)}: {made.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(store: Store) -> list[JobRecord]:
    """Enqueue until nothing more goes in; what was accepted."""
    accepted = []
    for size in (10_000, 1000, 10):
        for _ in range(1000):
            try:
                accepted.append(store.enqueue(args="x" * size))
            except DatabaseFull:
                break
        else:
            raise AssertionError("the disk is not full")
    return accepted


@pytest.mark.processes
def test_disk_full(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with (
        mounted(folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"),
        closing(Store(folder)) as store,
    ):
        accepted = [store.enqueue()]
        worker = store.worker()
        claim = worker.claim_one()
        accepted += fill_up(store)
        refused(store, DatabaseFull, "no space left on the disk of .* free some")
        assert all(store.get(record).id == record.id for record in accepted)
        subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
        assert worker.finish(claim), "an outcome that could not be written is written later"
        works_with(store, *accepted[1:])


@pytest.mark.processes
def test_a_new_queue_on_a_full_disk_is_served_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with (
        mounted(folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"),
        closing(Store(folder)) as store,
    ):
        fill_up(store)
        with pytest.raises(DatabaseFull):
            store.enqueue(queue_name="new", args="x" * 500_000)
        subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
        record = store.enqueue(queue_name="new")
        assert store.worker(queues=["new"]).claim_one().id == record.id


# --- permissions ---------------------------------------------------------------------------------


@pytest.mark.processes
def test_a_folder_that_became_read_only(tmp_path: Path) -> None:
    """Root may write whatever the modes say, so the mount itself is read-only."""
    folder = tmp_path / "disk"
    with (
        mounted(folder, "-t", "tmpfs", "-o", "size=8m", "tmpfs"),
        closing(Store(folder)) as store,
    ):
        accepted = store.enqueue()
        store.engine.close()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        refused(store, DatabaseReadOnly, "fix the permissions|can't be opened")
        refused(store, DatabaseReadOnly, "fix the permissions|can't be opened")
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        works_with(store, accepted)


@pytest.mark.processes
def test_a_folder_that_was_always_read_only(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with (
        mounted(folder, "-t", "tmpfs", "-o", "size=8m,ro", "tmpfs"),
        closing(Store(folder)) as store,
    ):
        refused(store, DatabaseReadOnly, "fix the permissions")
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        works_with(store)


# --- the file ------------------------------------------------------------------------------------


def test_the_file_was_deleted_while_in_use(store: Store) -> None:
    lost = store.enqueue()
    store.engine.count()
    for suffix in ("", "-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).unlink()
    refused(store, DatabaseGone, "was deleted or replaced while it was in use. Nothing was done")
    with pytest.raises(DatabaseGone):  # the connection for reading has to notice too
        store.get(lost)
    works_with(store)
    assert lost.id not in {row[0] for row in store.query("SELECT id FROM jobs")}


def test_the_file_was_replaced_by_a_backup(store: Store, tmp_path: Path) -> None:
    accepted = store.enqueue()
    store.engine.close()
    backup = tmp_path / "backup"
    shutil.copy(store.path, backup)
    store.enqueue()
    store.engine.close()
    store.enqueue()  # open again, and then replaced
    for suffix in ("-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).unlink()
    backup.rename(store.path)
    refused(store, DatabaseGone, "deleted or replaced")
    works_with(store, accepted)


def test_the_folder_is_missing(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "not" / "there" / "yet")) as store:
        works_with(store)


def test_the_folder_was_removed_while_in_use(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "gone")) as store:
        store.enqueue()
        shutil.rmtree(tmp_path / "gone")
        refused(store, DatabaseGone, "deleted or replaced")
        works_with(store)


def test_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with closing(Store(tmp_path / "folder")) as store:
        refused(store, DatabaseReadOnly, "see that its folder is one")
        (tmp_path / "folder").unlink()
        works_with(store)


def test_the_file_is_a_folder(store: Store) -> None:
    store.path.mkdir()
    refused(store, DatabaseCorrupt, "is not a file: set OFFLOAD_SQLITE_PATH")
    store.path.rmdir()
    works_with(store)


def test_the_file_is_no_database(store: Store) -> None:
    store.path.write_text("Dear diary, " * 1000)
    before = store.path.read_bytes()
    refused(store, DatabaseCorrupt, "is not a usable job database .*restore a backup")
    assert store.path.read_bytes() == before, "it belongs to another program"
    store.path.unlink()
    works_with(store)


@pytest.mark.parametrize("version", [0, max(MIGRATIONS), GENERATION])
def test_the_file_is_another_program_s_database(store: Store, version: int) -> None:
    with closing(apsw.Connection(str(store.path))) as second:
        second.execute("CREATE TABLE songs (title)")
        second.execute(f"PRAGMA user_version = {version}")
    before = store.path.read_bytes()
    refused(store, DatabaseCorrupt, "is the database of another program")
    assert store.path.read_bytes() == before, "not even its journal mode was changed"
    store.path.unlink()
    works_with(store)


def test_a_newer_version_has_added_something(store: Store) -> None:
    """As during a deploy, or after one that was taken back."""
    accepted = store.enqueue()
    newer = max(MIGRATIONS) + 1
    store.execute("ALTER TABLE jobs ADD COLUMN colour TEXT")
    store.execute(f"PRAGMA user_version = {newer}")
    store.engine.close()
    works_with(store, accepted)
    assert store.query("PRAGMA user_version") == [(newer,)], "it was not called older than it is"


def test_the_database_is_of_a_newer_generation(store: Store) -> None:
    accepted = store.enqueue()
    store.execute(f"PRAGMA user_version = {GENERATION * (max(MIGRATIONS) // GENERATION + 1)}")
    store.engine.close()
    with pytest.raises(DatabaseTooNew, match="upgrade this installation"):
        store.enqueue()
    with closing(apsw.Connection(str(store.path))) as newer:
        assert newer.execute("PRAGMA application_id").get == APPLICATION_ID
        newer.execute(f"PRAGMA user_version = {max(MIGRATIONS)}")
    works_with(store, accepted)


def test_the_file_is_corrupt(store: Store, tmp_path: Path) -> None:
    store.engine.enqueue([store.new(args="x" * 400) for _ in range(200)])
    store.engine.close()
    good = store.path.read_bytes()
    with store.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (len(good) - 4096))
    with pytest.raises(DatabaseCorrupt, match="restore a backup, or move it away"):
        store.engine.count()
    refused(store, DatabaseCorrupt, "restore a backup, or move it away")
    assert store.path.stat().st_size == len(good), "it is not created anew silently"
    store.engine.close()
    store.path.write_bytes(good)
    assert store.engine.count()[JobStatus.READY] == 200
    assert is_intact(store.engine) == []


# --- network -------------------------------------------------------------------------------------


def mounts(*lines: tuple[str, str]) -> str:
    """/proc/self/mountinfo with these mount points and types."""
    return "".join(
        f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"
        for number, (point, kind) in enumerate([("/", "ext4"), *lines], 20)
    )


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(filesystem, "MOUNTS", table)
    table.write_text(mounts((str(tmp_path), kind)))
    refused(store, NetworkFilesystem, rf"network file system \({kind}\).*OFFLOAD_SQLITE_PATH")
    assert not store.path.exists()
    with closing(Store(tmp_path / "forced", force=True)) as forced:
        works_with(forced)
    table.write_text(mounts((str(tmp_path), "ext4")))
    works_with(store)


def test_the_innermost_mount_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(filesystem, "MOUNTS", table)
    for folder in ("share", "shared", "with blank", "Übung"):
        (tmp_path / folder / "local").mkdir(parents=True)
    table.write_text(
        mounts(
            (f"{tmp_path}/share", "nfs"),
            (f"{tmp_path}/share/local", "ext4"),
            (f"{tmp_path}/with\\040blank", "cifs"),
            (f"{tmp_path}/Übung", "nfs4"),
        )
    )
    found = {
        name: filesystem.filesystem_of(tmp_path / name)
        for name in ("share", "share/local", "shared", "with blank/local", "Übung", ".")
    }
    assert found == {
        "share": "nfs",
        "share/local": "ext4",
        "shared": "ext4",
        "with blank/local": "cifs",
        "Übung": "nfs4",
        ".": "ext4",
    }
    table.unlink()
    assert filesystem.filesystem_of(tmp_path) is None


# --- the machine ---------------------------------------------------------------------------------


def test_no_descriptors_left(store: Store) -> None:
    accepted = store.enqueue()
    store.engine.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(3):  # not even the file can be opened; the file, but not its log; …
        used = [os.open(os.devnull, os.O_RDONLY)]
        limit = used[0] + 1 + spare
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            with pytest.raises(TooManyFiles, match=r"too many files open .*raise its limit"):
                store.enqueue()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(used[0])
            store.engine.close()
    works_with(store, accepted)


FSYNC = """
import sys
from pathlib import Path
from flask_offload.errors import DiskError
from store_support import Store
store = Store(Path(sys.argv[1]), durable=True)
store.engine.count()
for _ in range(40):
    try:
        print(store.enqueue().id, flush=True)
    except DiskError as error:
        print("error", error, flush=True)
store.engine.close()
"""


@pytest.mark.processes
def test_an_fsync_that_fails(tmp_path: Path) -> None:
    """What was not safely written is not accepted, and the next job is."""
    strace = require_tool("strace")
    with closing(Store(tmp_path)) as store:
        store.enqueue()
    trace = [strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync"]
    inject = ["-e", "inject=fdatasync:error=EIO:when=8+7"]
    done = subprocess.run(
        [*trace, *inject, sys.executable, "-c", FSYNC, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    errors = [line for line in lines if line.startswith("error")]
    accepted = {line for line in lines if not line.startswith("error")}
    assert len(lines) == 40
    assert errors
    assert accepted
    assert all("reports an error" in line for line in errors)
    with closing(Store(tmp_path)) as store:
        there = {row[0] for row in store.query("SELECT id FROM jobs")}
        assert accepted <= there
        assert is_intact(store.engine) == []


@pytest.mark.processes
def test_an_outcome_that_could_not_be_written_is_written_again(store: Store) -> None:
    """exchange() does all or nothing, so that the worker may simply repeat it."""
    first, second = store.enqueue(), store.enqueue(on_crash="fail")
    worker = store.worker()
    claim = worker.claim_one()
    written = outcome(claim, store.clock())
    with started("hold", str(store.path)), pytest.raises(DatabaseLocked):
        worker.sqlite_store.exchange([written], {"threads": 1})
    assert (store.status(first), store.status(second)) == (JobStatus.RUNNING, JobStatus.READY)
    exchanged = worker.sqlite_store.exchange([written], {"threads": 1})
    assert (exchanged.refused, [found.id for found in exchanged.claims]) == ([], [second.id])


def test_errors_of_the_system_are_mapped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be provoked here: quotas, disks that break."""
    for number, error in (
        (errno.EDQUOT, DatabaseFull),
        (errno.ENFILE, TooManyFiles),
        (errno.EACCES, DatabaseReadOnly),
        (errno.EIO, DiskError),
    ):

        def fail(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            with pytest.raises(error):
                store.enqueue()
    works_with(store)
