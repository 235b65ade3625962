"""File systems on which a SQLite database must not be: those whose locks can't be trusted."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import NetworkFilesystem

NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "virtiofs",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "ocfs2",
        "gfs2",
        "davfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.glusterfs",
        "fuse.cephfs",
        "fuse.davfs2",
    ]
)
"""File system types, as /proc/self/mountinfo names them, seen to break or forge SQLite's locks."""

MOUNTS = Path("/proc/self/mountinfo")
ESCAPED = re.compile(r"\\([0-7]{3})")  # how it writes blanks: \040


def filesystem_of(folder: Path) -> str | None:
    """The type of the file system of `folder`; None where the system doesn't report it."""
    try:
        lines = os.fsdecode(MOUNTS.read_bytes()).splitlines()
    except OSError:
        return None
    real = os.path.realpath(folder)
    best, kind = "", None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = ESCAPED.sub(lambda found: chr(int(found[1], 8)), left.split()[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def refuse_network(folder: Path) -> None:
    """Raise NetworkFilesystem if `folder` is on one."""
    kind = filesystem_of(folder)
    if kind in NETWORK:
        raise NetworkFilesystem(
            f"{folder} is on a network file system ({kind}), where SQLite's locks can't be"
            " trusted: set OFFLOAD_SQLITE_PATH to a local disk"
            " (or OFFLOAD_SQLITE_FORCE = True, if you know better)"
        )
