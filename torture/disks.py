"""Small disks of our own, to fill, to break and to pull the plug of. They take root."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .scenario import LeftOut

FS_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32) of linux/fs.h."""
NO_FLUSH = 2
"""Nothing that is not on the disk yet gets there: what a power cut does."""


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A disk in memory of this size, such as "4m"."""
    _mount_first(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield folder
    finally:
        _unmount(folder)


class Image:
    """A file with an ext4 file system in it, mounted at `folder`."""

    def __init__(self, image: Path, folder: Path, megabytes: int) -> None:
        self.image, self.folder = image, folder
        if shutil.which("mkfs.ext4") is None:
            raise LeftOut("mkfs.ext4 is not installed")
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", str(image))

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mounted for the time of the block; replays the journal of a file system that was cut."""
        _mount_first(self.folder, "-o", "loop", str(self.image))
        try:
            yield self.folder
        finally:
            _unmount(self.folder)

    def cut_power(self) -> None:
        """What was not synced is lost; nothing more gets to the disk."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NO_FLUSH))
        except OSError as error:
            raise LeftOut(f"this kernel can't shut a file system down: {error}") from None
        finally:
            os.close(descriptor)

    def make_read_only(self) -> None:
        """As ext4 does by itself when the disk reports errors."""
        _run("mount", "-o", "remount,abort", str(self.folder))


def _mount_first(folder: Path, *arguments: str) -> None:
    if os.geteuid() != 0:
        raise LeftOut("only root can mount a disk")
    folder.mkdir(exist_ok=True)
    try:
        _run("mount", *arguments, str(folder))
    except OSError as error:
        raise LeftOut(f"this machine lets us mount nothing: {error}") from None


def _unmount(folder: Path) -> None:
    try:
        _run("umount", str(folder))
    except OSError:  # a file is open still: the kernel unmounts when it is closed
        with suppress(OSError):
            _run("umount", "-l", str(folder))
