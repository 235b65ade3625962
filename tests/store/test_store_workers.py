"""Who is alive, what becomes of the jobs of the dead, and the notifications that wake workers."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from flask_offload.engines import worker_locks
from flask_offload.engines.lock import Lock
from flask_offload.engines.slots import RECORD, Slots, read_started
from flask_offload.engines.sqlite import notifier as notifier_module
from flask_offload.engines.sqlite import recovery
from flask_offload.engines.sqlite.notifier import NotificationPipe, Notifiers
from flask_offload.engines.sqlite.recovery import live_workers, recover, set_stopping, unregister
from flask_offload.engines.worker_locks import (
    Registration,
    dead_workers,
    is_alive,
    run_folder,
)
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.job import JobStatus
from store_support import KEEP, START, Store, Worker, pid_that_is_gone
from support import running, wait_until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


# --- locks ---------------------------------------------------------------------------------------


def test_a_lock_has_one_owner(folder: Path) -> None:
    first, second = Lock(folder / "a.lock"), Lock(folder / "a.lock")
    assert first.acquire()
    assert (first.is_held, second.acquire(), second.is_held) == (True, False, False)
    first.release()
    assert second.acquire()
    second.release(remove=True)
    assert list(folder.iterdir()) == []
    second.release(remove=True)  # twice is no mistake


def test_a_lock_on_a_file_that_was_removed_is_none(folder: Path) -> None:
    """Else two could hold it: one the old file, one the new."""
    holder, other = Lock(folder / "a.lock"), Lock(folder / "a.lock")
    assert holder.acquire()
    holder.path.unlink()
    assert other.acquire()
    assert Lock(folder / "a.lock").acquire() is False
    holder.release()
    assert other.is_held
    other.release()


def test_a_lock_that_is_taken_while_its_file_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Lock(folder / "a.lock")

    def remove_then_lock(descriptor: int, operation: int) -> None:
        lock.path.unlink(missing_ok=True)
        real(descriptor, operation)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", remove_then_lock)
    assert lock.acquire() is False
    monkeypatch.undo()
    assert lock.acquire()
    lock.release()


HOLD = """
import sys, time
from pathlib import Path
from flask_offload.engines.lock import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.processes
def test_the_kernel_releases_a_lock_when_its_owner_is_killed(folder: Path) -> None:
    path = folder / "w1.lock"
    with running([sys.executable, "-c", HOLD, path], ready="held") as process:
        assert is_alive(folder, "w1")
        assert not Lock(path).acquire()
        process.popen.kill()
        process.popen.wait()
        assert not is_alive(folder, "w1")
    assert not is_alive(folder, "never")


@pytest.mark.processes
def test_a_forked_child_keeps_no_lock(folder: Path) -> None:
    """A task that forks must not keep its worker alive for ever."""
    lock = Lock(folder / "w1.lock")
    assert lock.acquire()
    first, second = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(second)
        os.read(first, 1)  # until the parent has let go and looked
        os._exit(lock.is_held)
    os.close(first)
    assert is_alive(folder, "w1"), "the parent's lock stays"
    lock.release()
    wait_until(lambda: not is_alive(folder, "w1"), message="the child to have none")
    os.close(second)
    assert os.waitpid(pid, 0)[1] == 0


# --- slots ---------------------------------------------------------------------------------------


def test_slots_record_what_has_started(folder: Path) -> None:
    slots = Slots(folder / "w.slots", 4)
    tickets = {seq: slots.take(seq) for seq in (11, 22, 33)}
    assert (slots.free, len(set(tickets.values()))) == (1, 3)
    before = time.monotonic()
    slots.start(tickets[11], 11)
    slots.start(tickets[33], 33)
    slots.give_back(tickets[33])
    started = slots.started_at(tickets[11])
    assert started is not None
    assert before <= started <= time.monotonic()
    assert slots.started_at(tickets[22]) is None
    assert read_started(slots.path) == {11}
    assert slots.free == 2
    slots.close()
    assert read_started(slots.path) is None


@pytest.mark.processes
def test_a_child_writes_into_the_same_slots(folder: Path) -> None:
    slots = Slots(folder / "w.slots", 2)
    ticket = slots.take(7)
    pid = os.fork()
    if pid == 0:
        second = Slots(slots.path)
        second.start(ticket, 7)
        os._exit(0)
    os.waitpid(pid, 0)
    assert read_started(slots.path) == {7}
    slots.close()


def test_truncated_slots_are_read_as_far_as_they_go(folder: Path) -> None:
    slots = Slots(folder / "w.slots", 3)
    for seq in (1, 2, 3):
        slots.start(slots.take(seq), seq)
    os.truncate(slots.path, 2 * RECORD.size + 5)
    assert read_started(slots.path) == {1, 2}
    slots.close()


# --- recovery ------------------------------------------------------------------------------------


def test_the_jobs_of_a_dead_worker_go_back(store: Store) -> None:
    started, unstarted, other = (store.enqueue() for _ in range(3))
    dead, living = store.worker(), store.worker()
    dead.exchange(capacity={"threads": 1})
    dead.exchange(capacity={"threads": 1}, start=False)
    living.claim_one()
    assert store.recover() == []
    dead.die()
    assert store.recover() == [(dead.id, 2)]
    assert store.recover() == []
    stored = store.get(started)
    assert (stored.status, stored.crashes) == (JobStatus.READY, 1)
    (attempt,) = stored.attempts
    assert (attempt.outcome, attempt.worker) == ("CRASHED", dead.id)
    assert attempt.error is not None
    assert attempt.error.type == "WorkerDied"
    stored = store.get(unstarted)
    assert (stored.status, stored.crashes, stored.attempt, stored.attempts) == (
        JobStatus.READY,
        0,
        0,
        [],
    )
    assert store.status(other) is JobStatus.RUNNING
    assert [info.id for info in live_workers(store.engine)] == [living.id]
    left = {path.name.split(".")[0] for path in run_folder(store.path).iterdir()}
    assert left == {living.id}


def test_a_worker_does_not_recover_itself(store: Store) -> None:
    store.enqueue()
    worker = store.worker()
    worker.claim_one()
    assert recover(store.engine, KEEP, worker.id) == []
    worker.registration.lock.path.unlink()
    assert recover(store.engine, KEEP, worker.id) == []


@pytest.mark.parametrize("lost", ["slots", "boot", "row"])
def test_without_a_trace_a_job_counts_as_started(
    store: Store, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """It may have run, so it is a crash: one that must not run twice has to end."""
    often, once = store.enqueue(), store.enqueue(on_crash="fail")
    worker = store.worker(registered=lost != "row")
    worker.exchange(capacity={"threads": 2}, start=False)
    worker.die()
    if lost == "slots":
        worker.registration.slots.path.unlink()
    elif lost == "boot":
        monkeypatch.setattr(recovery, "boot", lambda: "another run of the machine")
    assert store.recover() == [(worker.id, 2)]
    assert (store.get(often).status, store.get(often).crashes) == (JobStatus.READY, 1)
    assert store.status(once) is JobStatus.FAILED


@pytest.mark.processes
def test_a_lock_file_that_vanished_with_its_worker(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    worker.claim_one()
    worker.die(files_too=True)
    assert store.recover() == [], "its process, which is this one, is alive"
    store.execute("UPDATE workers SET pid = ?", pid_that_is_gone())
    assert store.recover() == [(worker.id, 1)]
    assert store.status(record) is JobStatus.READY


def test_a_lock_file_that_vanished_under_a_living_worker(store: Store) -> None:
    """The run folder was cleaned up: no worker takes its jobs."""
    store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    for path in run_folder(store.path).iterdir():
        path.unlink()
    assert store.recover() == []
    assert worker.finish(claim)


@pytest.mark.parametrize("row", ["none", "other boot"])
def test_a_worker_of_which_nothing_is_left(store: Store, row: str) -> None:
    record = store.enqueue()
    worker = store.worker(registered=row != "none")
    worker.claim_one()
    if row == "other boot":
        store.execute("UPDATE workers SET boot = 'another'")
    worker.die(files_too=True)
    assert store.recover() == [(worker.id, 1)]
    assert store.get(record).crashes == 1


@pytest.mark.processes
def test_two_recoverers_put_a_job_back_once(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    worker.claim_one()
    worker.die()
    folder = run_folder(store.path)
    with dead_workers(folder, "me") as mine:
        assert mine == [worker.id]
        with dead_workers(folder, "you") as yours:
            assert yours == []
        assert recover(store.engine, KEEP, "you") == []
    store.execute("UPDATE workers SET pid = ?", pid_that_is_gone())  # of which nothing is left now
    assert [recover(store.engine, KEEP, name) for name in ("me", "you")] == [[(worker.id, 1)], []]
    assert store.get(record).crashes == 1


def test_what_could_not_be_put_back_is_tried_again(store: Store) -> None:
    folder = run_folder(store.path)
    worker = store.worker()
    worker.die()
    with pytest.raises(OSError, match="disk"), dead_workers(folder, "me"):
        raise OSError("disk")
    with dead_workers(folder, "me") as dead:
        assert dead == [worker.id]


def test_a_recoverer_may_lock_a_new_worker_out_of_its_first_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["taken", "free"])
    monkeypatch.setattr(worker_locks, "secrets", SimpleNamespace(token_hex=lambda _: next(names)))
    lock = Lock(folder / f"w{os.getpid()}-taken.lock")
    assert lock.acquire()
    registration = Registration(folder, 1)
    assert registration.id.endswith("-free")
    registration.close()
    lock.release(remove=True)
    assert list(folder.iterdir()) == []


def test_workers_are_listed(store: Store) -> None:
    store.clock.tick(5)
    worker = store.worker(queues=["b", "a"])
    (info,) = live_workers(store.engine)
    assert (info.id, info.pid, info.kind, info.capacity) == (worker.id, os.getpid(), "command", 1)
    assert (info.queues, info.started_at, info.stopping) == (["a", "b"], START + 5, False)
    set_stopping(store.engine, worker.id)
    assert live_workers(store.engine)[0].stopping
    unregister(store.engine, worker.id)
    assert live_workers(store.engine) == []


def test_a_crash_cap_counts_deaths_of_workers(store: Store) -> None:
    record = store.enqueue()
    for lane in ("threads", "threads", "quarantined"):
        worker = store.worker()
        worker.claim_one(lane)
        worker.die()
        store.recover()
    stored = store.get(record)
    assert (stored.status, stored.crashes) == (JobStatus.FAILED, 3)
    assert stored.error is not None
    assert "not tried again" in stored.error.message


def test_an_unstarted_one_can_be_recovered_for_ever(store: Store) -> None:
    record = store.enqueue(on_crash="fail")
    for _ in range(5):
        worker = store.worker()
        worker.exchange(capacity={"threads": 1}, start=False)
        worker.die()
        store.recover()
    assert store.get(record).attempt == 0
    worker = store.worker()
    assert worker.finish(worker.claim_one(), Ending.SUCCESSFUL)


# --- notifications -----------------------------------------------------------------------------


def notified(*pipes: NotificationPipe) -> list[bool]:
    """Which of them have been rung; takes the rings back."""
    found = []
    for one in pipes:
        readable, _, _ = select.select([one], [], [], 0)
        found.append(bool(readable))
        one.clear()
    return found


def is_reached(sender: Notifiers, one: NotificationPipe) -> bool:
    """Whether a notification now reaches this pipe."""
    sender.notify()
    return notified(one) == [True]


def test_every_worker_is_notified(folder: Path) -> None:
    pipes = [NotificationPipe(folder / f"w{number}.notify") for number in range(3)]
    sender = Notifiers(folder)
    assert notified(*pipes) == [False] * 3
    sender.notify()
    assert notified(*pipes) == [True] * 3
    assert notified(*pipes) == [False] * 3
    assert all(stat.S_IMODE(one.path.stat().st_mode) == 0o600 for one in pipes)
    sender.close()
    for one in pipes:
        one.close()
    assert list(folder.iterdir()) == []


def test_notify_without_workers_has_no_effect(tmp_path: Path) -> None:
    sender = Notifiers(tmp_path / "nowhere")
    sender.notify()
    sender.close()


def test_many_notifications_never_block(folder: Path) -> None:
    """The pipe is full after 65,536 of them; they all say the same."""
    one = NotificationPipe(folder / "w.notify")
    sender = Notifiers(folder)
    for _ in range(70_000):
        sender.notify()
    assert notified(one) == [True]
    sender.notify()
    assert notified(one) == [True]
    sender.close()
    one.close()


def test_a_new_worker_s_pipe_is_found(folder: Path) -> None:
    sender = Notifiers(folder)
    first = NotificationPipe(folder / "w1.notify")
    sender.notify()
    second = NotificationPipe(folder / "w2.notify")
    wait_until(lambda: is_reached(sender, second), message="the second pipe")
    assert notified(first) == [True]
    first.close()
    third = NotificationPipe(folder / "w3.notify")
    wait_until(lambda: is_reached(sender, third), message="the third pipe")
    sender.close()
    second.close()
    third.close()


def test_a_folder_that_has_not_changed_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = NotificationPipe(folder / "w.notify")
    long_ago = time.time() - 60
    os.utime(folder, (long_ago, long_ago))
    monkeypatch.setattr(notifier_module, "LOOK_AGAIN", -1.0)
    sender = Notifiers(folder)
    sender.notify()
    monkeypatch.setattr(os, "listdir", None)
    sender.notify()
    assert notified(one) == [True]
    monkeypatch.undo()
    sender.close()
    one.close()


def test_a_change_just_now_is_looked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second change within a tick of the file system's clock does not show in its time."""
    monkeypatch.setattr(notifier_module, "LOOK_AGAIN", -1.0)
    sender = Notifiers(folder)
    first = NotificationPipe(folder / "w1.notify")
    sender.notify()
    moment = folder.stat().st_mtime_ns
    second = NotificationPipe(folder / "w2.notify")
    os.utime(folder, ns=(moment, moment))
    sender.notify()
    assert notified(first, second) == [True, True]
    for one in (sender, first, second):
        one.close()


def test_a_dead_worker_s_pipe_is_closed(folder: Path) -> None:
    living, dead = NotificationPipe(folder / "w1.notify"), NotificationPipe(folder / "w2.notify")
    sender = Notifiers(folder)
    sender.notify()
    os.close(dead.fileno())  # as the kernel does; the pipe stays in the folder
    sender.notify()
    sender.notify()
    assert notified(living) == [True]
    assert list(sender._descriptors) == ["w1.notify"]
    sender.close()
    living.close()


def test_notify_without_a_run_folder_raises_nothing(folder: Path) -> None:
    one = NotificationPipe(folder / "w.notify")
    sender = Notifiers(folder)
    sender.notify()
    one.close()
    folder.rmdir()
    sender.notify()
    sender.close()


def test_an_enqueue_notifies_after_its_commit(store: Store) -> None:
    worker: Worker = store.worker()
    mine = NotificationPipe(worker.registration.notifier_path)
    record = store.enqueue()
    assert notified(mine) == [True]
    for change in (store.engine.cancel, store.engine.retry):
        change(record.id)
        assert notified(mine) == [True]
    store.engine.pause("default")
    assert notified(mine) == [False]
    store.engine.resume("default")
    assert notified(mine) == [True]
    mine.close()


@pytest.mark.processes
def test_a_forked_child_notifies_with_descriptors_of_its_own(folder: Path) -> None:
    one = NotificationPipe(folder / "w.notify")
    sender = Notifiers(folder)
    sender.notify()
    assert notified(one) == [True]
    pid = os.fork()
    if pid == 0:
        had = len(sender._descriptors)
        sender.notify()
        os._exit(had)
    assert os.waitpid(pid, 0)[1] == 0, "it inherited none"
    assert notified(one) == [True]
    sender.notify()
    assert notified(one) == [True]
    sender.close()
    one.close()
