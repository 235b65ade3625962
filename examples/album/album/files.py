"""Where the files of a photo are."""

from __future__ import annotations

from pathlib import Path

from flask import current_app

SIZES = (1024, 512, 256, 128)
"""Pixels of a thumbnail's longer side."""


def folder(name: str) -> Path:
    """A folder for photos, made if need be."""
    path = Path(current_app.config["ALBUM_FOLDER"]) / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def original(photo_id: int) -> Path:
    """The photo as it came."""
    return folder("originals") / str(photo_id)


def thumbnail(photo_id: int, size: int) -> Path:
    """One of its thumbnails."""
    return folder("thumbnails") / f"{photo_id}-{size}.webp"
