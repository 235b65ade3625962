"""Which file systems a SQLite database must not lie on: those whose locks can't be trusted."""

from __future__ import annotations

import os
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


def filesystem_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the file system on which `folder` lies; None where the system doesn't tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    real = os.path.realpath(folder)
    best, kind = "", None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def refuse_network(folder: Path, mounts: Path = MOUNTS) -> None:
    """Raise NetworkFilesystem if `folder` lies on one."""
    kind = filesystem_of(folder, mounts)
    if kind in NETWORK:
        raise NetworkFilesystem(
            f"{folder} lies on a network file system ({kind}), where SQLite's locks can't be"
            " trusted: set OFFLOAD_SQLITE_PATH to a local disk"
            " (or OFFLOAD_SQLITE_FORCE = True, if you know better)"
        )
