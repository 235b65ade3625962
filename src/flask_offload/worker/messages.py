"""The messages between a supervisor and its children, and the channel that carries them."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from functools import cached_property
from typing import Any, TypeAlias

import msgspec
from flask import Flask

from .. import signals
from ..config import Config
from ..engines.schedules import ScheduleSpec
from ..engines.store import Retention
from ..jobs import log
from ..jobs.attempt import Claim, Ending, Outcome, Report

# --- to a child --------------------------------------------------------------------------------


class Begin(msgspec.Struct, tag="begin", array_like=True):
    """Be ready for jobs; here is the worker's table of slots."""

    slots: str


class Run(msgspec.Struct, tag="run", array_like=True):
    """Run these jobs, in this order."""

    claims: list[Claim]


class Cancel(msgspec.Struct, tag="cancel", array_like=True):
    """Let this attempt learn at its next checkpoint that it is to stop."""

    seq: int
    attempt: int


class Recall(msgspec.Struct, tag="recall", array_like=True):
    """Give back what has not started."""


class Drain(msgspec.Struct, tag="drain", array_like=True):
    """The worker is stopping: resumable jobs end at their next checkpoint."""


class ResolveTimeout(msgspec.Struct, tag="resolve-timeout", array_like=True):
    """Apply the task's retry policy to an attempt whose process was stopped for its timeout."""

    claim: Claim
    message: str
    began: float


class Crashed(msgspec.Struct, tag="crashed", array_like=True):
    """Tell the app's receivers that another child died while it ran this job."""

    job_id: str
    task: str
    attempt: int
    reason: str

    def announce(self, app: Flask | None) -> None:
        """Send the signal."""
        signals.send(signals.crashed, app, **msgspec.structs.asdict(self))


class Ended(msgspec.Struct, tag="ended", array_like=True):
    """Tell the app's receivers of a job that ended with the death of its process."""

    claim: Claim
    outcome: Outcome

    def announce(self, app: Flask | None) -> None:
        """Send the signal."""
        is_failed = self.outcome.ending is Ending.FAILED
        signal = signals.failed if is_failed else signals.cancelled
        signals.send(signal, app, claim=self.claim, outcome=self.outcome)


ToChild: TypeAlias = Begin | Run | Cancel | Recall | Drain | ResolveTimeout | Crashed | Ended

# --- to the supervisor -------------------------------------------------------------------------


class WorkerSettings(msgspec.Struct, array_like=True, dict=True):
    """What a worker needs to know of the app; reported by a process that has imported it."""

    values: dict[str, Any]
    """The app's Config, as `Config.portable` gives it."""
    opener: str
    """`module:function` that opens the app's engine: `Engine.opener`."""
    database: str
    """The address that it opens."""
    retention: Retention
    files: str
    isolates: bool
    timeouts: dict[str, float]
    schedules: list[ScheduleSpec]
    own_worker: bool
    """False: the app's engine has a worker of its own, or none."""

    @cached_property
    def config(self) -> Config:
        """The app's settings."""
        return Config(**self.values)


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """The app is imported; ready for jobs."""

    settings: WorkerSettings


class ImportFailed(msgspec.Struct, tag="import-failed", array_like=True):
    """The app could not be imported."""

    reason: str


class Done(msgspec.Struct, tag="done", array_like=True):
    """Events of running jobs; reports come before the outcomes of the same jobs."""

    reports: list[Report]
    outcomes: list[Outcome]
    unknown: list[int]
    """seq of jobs whose task this app doesn't have."""


class Returned(msgspec.Struct, tag="returned", array_like=True):
    """The answer to Recall: seq of the jobs that will not be started."""

    seqs: list[int]


FromChild: TypeAlias = Ready | ImportFailed | Done | Returned

LENGTH = struct.Struct("!I")
CHUNK = 1 << 18
MAX_LENGTH = 1 << 30
"""Bytes of one message; a longer one is refused."""


class Channel:
    """Messages over a stream socket, never blocking: what can't be sent now waits in a buffer.

    incoming: the type of the messages that arrive.
    """

    def __init__(self, connection: socket.socket, incoming: object) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._inward = bytearray()
        self._outward = bytearray()
        self.is_closed: bool = False

    def fileno(self) -> int:
        """The descriptor to select on."""
        return self.socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._outward)

    def send(self, message: ToChild | FromChild) -> None:
        """Send it now, or as soon as `flush` can."""
        data = self._encode(message)
        self._outward += LENGTH.pack(len(data)) + data
        self.flush()

    def flush(self) -> None:
        """Send as much of the buffer as the socket takes."""
        while self._outward:
            try:
                sent = self.socket.send(self._outward)
            except BlockingIOError:
                return
            except OSError:  # the other side is dead; reading handles the rest
                self.is_closed = True
                self._outward.clear()
                return
            del self._outward[:sent]

    def receive(self) -> list[FromChild | ToChild]:
        """The messages that have arrived. `is_closed` is set at the end of the stream."""
        while not self.is_closed:
            try:
                data = self.socket.recv(CHUNK)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.is_closed = True
            self._inward += data
            if len(data) < CHUNK:
                break
        messages: list[FromChild | ToChild] = []
        start = 0
        while len(self._inward) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._inward, start)
            end = start + LENGTH.size + length
            if length > MAX_LENGTH:
                self._give_up(f"a message of {length} bytes")
                return messages
            if len(self._inward) < end:
                break
            try:
                messages.append(self._decode(memoryview(self._inward)[start + LENGTH.size : end]))
            except Exception as error:  # whatever it is, the others must go on
                self._give_up(f"a message that can't be read ({error})")
                return messages
            start = end
        del self._inward[:start]
        return messages

    def _give_up(self, what: str) -> None:
        """Read nothing more from the other side, as nothing after this can be trusted."""
        log.write(logging.ERROR, "bad_message", "the other process has sent %s", what)
        self.is_closed = True
        self._inward.clear()

    def close_later(self) -> None:
        """Let the other side read the end of the stream; it may still send its last words."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
