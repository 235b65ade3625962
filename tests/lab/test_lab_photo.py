"""The lab's photos: thumbnails as a web site makes them, and uploads that mean harm."""

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from flask_offload_lab import photo
from flask_offload_lab.errors import PhotoError
from flask_offload_lab.photo import FORMATS, SAMPLE, SIZES, check_photo, thumbnails


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_makes_every_size_and_format(tmp_path: Path) -> None:
    made = list(thumbnails(SAMPLE.read_bytes(), tmp_path))
    assert [path.name for path in made] == [
        f"{size}.{suffix}" for size in SIZES for suffix in FORMATS.values()
    ]
    for path in made:
        with Image.open(path) as image:
            assert max(image.size) == int(path.stem)
    sizes = [path.stat().st_size for path in made if path.suffix == ".jpg"]
    assert sizes == sorted(sizes, reverse=True)


def test_works_as_it_is_asked(tmp_path: Path) -> None:
    """So that a job can report its progress in between."""
    making = thumbnails(SAMPLE.read_bytes(), tmp_path)
    next(making)
    assert [path.name for path in tmp_path.iterdir()] == [f"{SIZES[0]}.jpg"]


def test_turns_it_upright_and_forgets_where_it_was_taken(tmp_path: Path) -> None:
    lying = Image.new("RGB", (400, 200), "white")
    lying.paste("red", (0, 0, 200, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    thumb = next(thumbnails(encoded(lying, exif=exif), tmp_path))
    with Image.open(thumb) as image:
        assert image.size == (200, 400)
        red, green, _ = image.getpixel((100, 50))  # type: ignore[misc]
        assert red > 200 > 50 > green
        assert not image.getexif()


def test_keeps_the_colour_profile(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.new("RGB", (80, 80)), icc_profile=profile)
    thumb = next(thumbnails(data, tmp_path))
    with Image.open(thumb) as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16"])
def test_takes_every_kind_of_picture(mode: str, tmp_path: Path) -> None:
    data = encoded(Image.new(mode, (80, 60)), "PNG")
    assert check_photo(data) == (80, 60)
    assert len(list(thumbnails(data, tmp_path))) == len(SIZES) * len(FORMATS)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width // 8 + 1) * 16))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [7_072, 10_000, 30_000])
def test_refuses_a_bomb_before_it_unpacks(side: int, tmp_path: Path) -> None:
    """At 30,000 Pillow refuses by itself, at 10,000 it warns, at 7,072 it says nothing."""
    data = png_that_claims(side, side)
    assert len(data) < 1_000
    with pytest.raises(PhotoError, match="pixels"):
        check_photo(data)
    with pytest.raises(PhotoError, match="pixels"):
        next(thumbnails(data, tmp_path))


def test_refuses_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo, "MAX_BYTES", 1_000)
    with pytest.raises(PhotoError, match="1,000"):
        check_photo(SAMPLE.read_bytes())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
        b"\xff\xd8\xff",
    ],
)
def test_refuses_what_is_no_photo(data: bytes) -> None:
    with pytest.raises(PhotoError):
        check_photo(data)


def test_refuses_half_a_photo(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="damaged"):
        next(thumbnails(SAMPLE.read_bytes()[:30_000], tmp_path))


def test_the_shipped_photo_is_small_and_has_its_papers() -> None:
    assert check_photo(SAMPLE.read_bytes()) == (512, 600)
    assert SAMPLE.stat().st_size < 400_000
    papers = (SAMPLE.parent / "README.md").read_text()
    assert "public domain" in papers
    assert SAMPLE.name in papers


def with_exif(exif: bytes, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_a_broken_exif_block_is_a_damaged_picture_or_ignored(kind: str, tmp_path: Path) -> None:
    """Pillow raises whatever its parsers do: SyntaxError, struct.error, KeyError, TypeError."""
    valid = Image.Exif()
    valid[0x0112] = 6
    chance = random.Random(11)
    blocks = [b"Exif\0\0", b"Exif\0\0broken", b"Exif\0\0II*\0\xff\xff\xff\xff"]
    for _ in range(60):
        changed = bytearray(valid.tobytes())
        for _ in range(3):
            changed[chance.randrange(6, len(changed))] = chance.randrange(256)
        blocks.append(bytes(changed))
    for block in blocks:
        with contextlib.suppress(PhotoError):
            next(thumbnails(with_exif(block, kind), tmp_path))
