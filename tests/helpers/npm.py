"""Programs from npm, for tests that compare with them: pinned, installed once beside the packages
of Python."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from support import missing


def node_modules(*packages: str) -> Path:
    """The folder `node_modules` with these packages, such as "web-vitals@5.1.0".

    Without npm, or without a registry, the test is skipped and says so; in CI that is a failure.
    """
    npm = shutil.which("npm")
    if npm is None:
        missing("npm is not installed (Debian: apt-get install npm)")
    name = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:16]
    folder = Path(sys.prefix) / "npm" / name
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", *packages]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        if result.returncode:
            missing(f"npm could not install {', '.join(packages)}: {result.stderr[-500:]}")
        done.touch()
    return folder / "node_modules"
