"""Thumbnails of a real photo, as a web site makes them: upright, sharp, in two formats."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import PhotoError

SAMPLE = Path(__file__).parent / "photos" / "grace-hopper.jpg"
"""The photo that ships with the lab; see the README beside it."""

SIZES = (512, 384, 256, 128, 64)
"""The longer side of each thumbnail, in pixels."""

FORMATS = {"JPEG": "jpg", "WEBP": "webp"}
"""What browsers are offered, and the files' suffixes."""

MAX_BYTES = 12 * 1024 * 1024
"""A phone's photo has 2 to 8 MB."""

MAX_PIXELS = 50_000_000
"""A phone's photo has 12 to 50 million; a small file may claim far more. Each takes 3 bytes."""

_OPTIONS = {
    "JPEG": {"quality": 82, "optimize": True, "progressive": True},
    "WEBP": {"quality": 80, "method": 6},
}


def check_photo(data: bytes) -> tuple[int, int]:
    """Look at an upload's header, not at its pixels, and give the width and the height.

    Raises PhotoError if it is too large, not a JPEG, PNG or WebP, or damaged.
    """
    with _open(data) as image:
        return image.size


def thumbnails(data: bytes, folder: Path) -> Iterator[Path]:
    """Write every size in every format into `folder`, each when the next one is asked for.

    The picture is turned upright by its EXIF orientation and is saved without its EXIF block, which
    may hold the place where it was taken. Raises PhotoError.
    """
    with _open(data) as image:
        upright = _upright(image)
    for size in SIZES:
        small = upright.copy()
        small.thumbnail((size, size), Image.Resampling.LANCZOS)
        for kind, suffix in FORMATS.items():
            path = folder / f"{size}.{suffix}"
            _save(small, path, kind, upright.info.get("icc_profile"))
            yield path


def _save(image: Image.Image, path: Path, kind: str, profile: bytes | None) -> None:
    try:
        image.save(path, kind, icc_profile=profile, **_OPTIONS[kind])
    except Exception as error:  # such as a colour profile that is too large for the format
        raise PhotoError(f"The picture can't be saved as {kind}: {error}.") from error


def _open(data: bytes) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise PhotoError(f"The photo has {len(data):,} bytes; at most {MAX_BYTES:,} are taken.")
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except UnidentifiedImageError:
        raise PhotoError("This is no JPEG, PNG or WebP picture.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own limits, which are above this one
        raise PhotoError(f"The picture claims more than {MAX_PIXELS:,} pixels.") from None
    except Exception as error:  # a broken header may raise anything
        raise PhotoError(f"The picture can't be opened: {error}.") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise PhotoError(
            f"The picture has {image.width:,} by {image.height:,} pixels;"
            f" at most {MAX_PIXELS:,} are taken."
        )
    return image


def _upright(image: Image.Image) -> Image.Image:
    """The decoded picture in RGB, turned as its EXIF block says."""
    try:
        image.load()
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # a broken block may raise anything: struct.error, SyntaxError, …
        raise PhotoError(f"The picture is damaged: {error}.") from error
    upright.info["icc_profile"] = profile
    return upright
