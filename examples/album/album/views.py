"""The pages. None of them waits for mail or for thumbnails."""

from __future__ import annotations

import re

from flask import (
    Blueprint,
    abort,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_mail import Message
from sqlalchemy.exc import IntegrityError

from flask_offload import Job, JobNotFound

from .extensions import db, offload
from .files import SIZES, original, thumbnail
from .models import Member, Photo
from .tasks import make_thumbnails

views = Blueprint("album", __name__)
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


@views.get("/")
def home() -> str:
    """Everybody who has joined, and a form to join."""
    members = db.session.scalars(db.select(Member).order_by(Member.id.desc()).limit(50))
    return render_template("home.html", members=members)


@views.post("/members")
def join() -> ResponseReturnValue:
    """Join. The welcome mail is written here and sent in the background."""
    member = Member(name=request.form["name"].strip(), address=request.form["address"].strip())
    if not member.name or not ADDRESS.fullmatch(member.address):
        abort(400, "A name and a mail address, please.")
    db.session.add(member)
    try:
        db.session.flush()  # gives the member an id
    except IntegrityError:
        abort(409, "This address has joined already.")
    message = Message("Welcome to the album", recipients=[member.address])
    message.body = render_template("welcome.txt", member=member)
    offload.send_mail(message)
    db.session.commit()  # the member and the mail, or neither
    return redirect(url_for(".show_member", member_id=member.id), 303)


@views.get("/members/<int:member_id>")
def show_member(member_id: int) -> str:
    """A member's photos, and a form to send another."""
    return render_template("member.html", member=db.get_or_404(Member, member_id))


@views.post("/members/<int:member_id>/photos")
def upload(member_id: int) -> ResponseReturnValue:
    """Keep the photo, and have its thumbnails made."""
    file = request.files.get("photo")
    if not file:
        abort(400, "Choose a photo.")
    photo = Photo(member=db.get_or_404(Member, member_id))
    db.session.add(photo)
    db.session.flush()  # gives it its id
    file.save(original(photo.id))
    photo.job_id = make_thumbnails.enqueue(photo.id).id
    db.session.commit()  # the photo and its job, or neither
    return redirect(url_for(".show_photo", photo_id=photo.id), 303)


@views.get("/photos/<int:photo_id>")
def show_photo(photo_id: int) -> str:
    """The photo, or how far its thumbnails are."""
    photo = db.get_or_404(Photo, photo_id)
    return render_template("photo.html", photo=photo, job=_job_of(photo), sizes=SIZES)


def _job_of(photo: Photo) -> Job | None:
    """Its job; None once it is ready, and when the job has been forgotten."""
    if photo.is_ready or photo.job_id is None:
        return None
    try:
        return offload.get_job(photo.job_id)
    except JobNotFound:
        return None


@views.get("/photos/<int:photo_id>/<int:size>.webp")
def show_thumbnail(photo_id: int, size: int) -> ResponseReturnValue:
    """A thumbnail."""
    path = thumbnail(photo_id, size)
    return send_file(path) if size in SIZES and path.exists() else abort(404)
