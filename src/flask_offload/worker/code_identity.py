"""Whether two web processes of one database have loaded the same code of the app."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from .app_locator import is_installed


def own_code() -> dict[str, str]:
    """A digest of the file of each module that is neither Python's nor installed."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str) or is_installed(Path(file)):
            continue
        try:
            found[name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
        except OSError:  # in an archive, or removed
            continue
    return found


def publish(path: Path, code: dict[str, str]) -> None:
    """Write down which code the worker of this process runs."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), "code": code}))
    draft.replace(path)


def other_code(path: Path, code: dict[str, str]) -> tuple[int, list[str]]:
    """The process that has published its code, and the modules that it has in another version."""
    try:
        found = json.loads(path.read_text())
        theirs: dict[str, str] = found["code"]
        return found["pid"], sorted(n for n in code if theirs.get(n, code[n]) != code[n])
    except (OSError, ValueError, KeyError):  # not written yet
        return 0, []
