"""What runs in the background. Each task may run twice after a crash, so each bears that."""

from __future__ import annotations

import time
from io import BytesIO

from flask import current_app
from PIL import Image, ImageOps

from flask_offload import Discard, current_job

from .extensions import db, offload
from .files import SIZES, folder, original, thumbnail
from .models import Photo

DAY = 24 * 3600.0


@offload.task(queue_name="photos", timeout=120)
def make_thumbnails(photo_id: int) -> None:
    """Make a photo's thumbnails, and then say in its row that they are there."""
    photo = db.session.get(Photo, photo_id)
    if photo is None:
        raise Discard("the photo was deleted meanwhile")
    data = original(photo.id).read_bytes()
    try:
        with Image.open(BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Discard("this file is no photo that we can read") from error
    for size in current_job.track(SIZES):
        small = image.copy()
        small.thumbnail((size, size))
        small.save(thumbnail(photo.id, size), method=6)
    photo.width, photo.height = image.size
    db.session.commit()


@offload.every("0 3 * * *")
def clean_up() -> int:
    """Every night, delete originals that are old: the album shows thumbnails only. How many."""
    oldest = time.time() - current_app.config["KEEP_ORIGINALS_DAYS"] * DAY
    old = [path for path in folder("originals").iterdir() if path.stat().st_mtime < oldest]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
