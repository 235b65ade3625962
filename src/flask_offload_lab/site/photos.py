"""The visitor's own photo: uploaded, checked, used by the sample app."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from ..errors import PhotoError
from ..photo import check_photo, thumbnails
from .lab import lab

photos = Blueprint("photos", __name__)


@photos.post("/photo")
def upload() -> BaseResponse:
    """Take a photo if it can be opened and made smaller; else 400 and the reason."""
    file = request.files.get("photo")
    data = b"" if file is None else file.read()
    try:
        if not data:
            raise PhotoError("Choose a photo first.")
        width, height = check_photo(data)
        with TemporaryDirectory() as folder:  # decoding finds damage
            next(thumbnails(data, Path(folder)))
    except PhotoError as error:
        return Response(f"{error}\n", 400, mimetype="text/plain")
    _own().write_bytes(data)
    if request.accept_mimetypes.best == "text/plain":
        return Response(f"Taken, {width} by {height} pixels. The next members get it.\n")
    return redirect(url_for("pages.try_it", _anchor="photo"), 303)


@photos.post("/photo/remove")
def remove() -> BaseResponse:
    """Go back to the photo that ships with the lab."""
    _own().unlink(missing_ok=True)
    return redirect(url_for("pages.try_it", _anchor="photo"), 303)


def has_photo() -> bool:
    """Whether the visitor has given one."""
    return _own().exists()


def _own() -> Path:
    return lab().testbed.sample_app.settings.upload
