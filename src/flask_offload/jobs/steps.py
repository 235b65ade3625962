"""Steps of a job that are done once: their results are stored with the job at once, so that an
attempt after a crash or a retry finds them. See `JobContext.once`."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import msgspec

from ..errors import JobCancelled, PayloadError, StepTooLarge
from ..payload.calls import Codecs, decode_value, encode_value
from .attempt import Claim

MAX_STEP = 100_000
"""Bytes of a step's result as JSON."""
MAX_NAME = 200
"""Characters of a step's name."""


class StepEngine(Protocol):
    """The part of an engine that keeps steps."""

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """Whether the attempt still holds its job, and what is stored of a step of that name.
        value: store this, if the attempt does."""


class StoredStep(msgspec.Struct, omit_defaults=True):
    """A step that is done. value: its result, encoded. error: why that could not be stored."""

    value: str | None = None
    error: str | None = None


_decode = msgspec.json.Decoder(StoredStep).decode


class Steps:
    """The steps of one attempt. Raises the subclasses of EngineUnavailable."""

    def __init__(self, engine: StepEngine, codecs: Codecs, claim: Claim) -> None:
        self._engine = engine
        self._codecs = codecs
        self._claim = claim

    def load(self, name: str) -> tuple[Any] | None:
        """The result of a step that is done; None for one that is not. Raises PayloadError if its
        result could not be stored or read, and JobCancelled in an attempt that is no longer the
        job's."""
        check_name(name)
        text = self._step(name)
        if text is None:
            return None
        stored = _decode(text)
        if stored.error is not None:
            raise PayloadError(stored.error)
        assert stored.value is not None
        return (decode_value(stored.value, self._codecs, what=self._what(name)),)

    def save(self, name: str, result: Any) -> None:
        """Store the result of a step. One that can't be stored is recorded as done all the same, so
        that no attempt does it again; raises PayloadError or StepTooLarge, now and in each."""
        what = self._what(name)
        try:
            data = encode_value(result, self._codecs, what=what, limit=1 << 30)
            if len(data) > MAX_STEP:
                raise StepTooLarge(
                    f"{what} takes {len(data):,} bytes, more than {MAX_STEP:,}: return an id, and"
                    " keep the data elsewhere"
                )
        except Exception as error:
            self._step(name, StoredStep(error=f"{error} (the step itself is done)"))
            raise
        self._step(name, StoredStep(value=data.decode()))

    def _step(self, name: str, stored: StoredStep | None = None) -> str | None:
        value = None if stored is None else msgspec.json.encode(stored).decode()
        is_held, text = self._engine.step(self._claim, name, value)
        if not is_held:
            raise JobCancelled("this attempt is no longer the job's: another one may be running")
        return text

    def _what(self, name: str) -> str:
        return f"task {self._claim.task!r}: the result of the step {name!r}"


def check_name(name: str) -> None:
    """Raise ValueError unless a step may have this name."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or "\0" in name:
        raise ValueError(f"a step's name is a text of 1 to {MAX_NAME} characters, not {name!r}")


def stable_key(job_id: str, name: str) -> str:
    """A text that is the same in every attempt of a job, and does not give away the job's id."""
    return hashlib.blake2b(f"{job_id} {name}".encode(), digest_size=16).hexdigest()
