"""Whether a worker has imported the app that the web process serves: the same configuration.

A factory that was called with an argument, a `.env` file that one of them has read, a setting that
was changed after the import: all show in `app.config`. The web process sends a digest of each key,
never a value; a worker that finds a difference does not run its jobs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import PurePath
from typing import Any

VARIABLE = "_OFFLOAD_WEB_CONFIG"
"""In the environment of a worker that a web process keeps: the digests as JSON."""
OF_COMMAND = frozenset({"APP", "RUN_FROM_CLI", "SKIP_DOTENV"})
"""Settings that `from_prefixed_env` takes from variables of the `flask` command itself."""
PLAIN = (str, bytes, int, float, complex, Decimal, date, time, timedelta, tzinfo, PurePath)


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """A short digest of each setting."""
    found = {str(key): _digest(value) for key, value in config.items() if key not in OF_COMMAND}
    return {**found, "DEBUG": _digest(bool(config.get("DEBUG")))}


def differences(config: Mapping[str, Any], expected: Mapping[str, str]) -> list[str]:
    """The keys whose values differ, sorted."""
    found = digests(config)
    keys = found.keys() | expected.keys()
    return sorted(key for key in keys if found.get(key) != expected.get(key))


def expected_digests() -> dict[str, str] | None:
    """Those of the web process that keeps this worker; None if there is none. Removed from the
    environment, so that the programs of tasks don't inherit them."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    found: dict[str, str] = json.loads(text)
    return found


def as_variable(config: Mapping[str, Any]) -> dict[str, str]:
    """The environment variable that carries the digests of this configuration."""
    return {VARIABLE: json.dumps(digests(config))}


def _digest(value: Any) -> str:
    return hashlib.sha256(_text(value, 0).encode("utf-8", "replace")).hexdigest()[:16]


def _text(value: Any, depth: int) -> str:
    """The same text in every process for equal values; of other objects only their type counts, as
    their representation may hold an address."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None or isinstance(value, PLAIN):
        return f"{kind}:{value!r}"
    if depth < 8 and isinstance(value, Mapping):
        items = sorted(f"{_text(k, depth + 1)}={_text(v, depth + 1)}" for k, v in value.items())
        return f"{kind}:{items}"
    if depth < 8 and isinstance(value, set | frozenset):
        return f"{kind}:{sorted(_text(item, depth + 1) for item in value)}"
    if depth < 8 and isinstance(value, list | tuple):
        return f"{kind}:{[_text(item, depth + 1) for item in value]}"
    name = getattr(value, "__qualname__", None)
    return f"{kind}:{getattr(value, '__module__', '')}.{name}" if name else kind
