"""A small site of your own. Run it: flask --app app run --debug"""

from __future__ import annotations

import os
import smtplib
import time
from email.message import EmailMessage
from pathlib import Path

from flask import Flask, Response, request
from PIL import Image
from werkzeug.utils import secure_filename

from flask_offload import Offload, current_job

app = Flask(__name__)
offload = Offload(app)

UPLOADS = Path(app.instance_path) / "uploads"
THUMBS = Path(app.instance_path) / "thumbs"
SIZES = (512, 256, 128, 64)
WEEK = 7 * 24 * 3600


@offload.task(queue_name="mail", max_attempts=5)
def send_welcome(address: str) -> None:
    message = EmailMessage()
    message["From"] = "site@nanosecond.example"
    message["To"] = address
    message["Subject"] = "Welcome"
    message.set_content("We are glad that you are here.\n")
    with smtplib.SMTP("127.0.0.1", int(os.environ["SMTP_PORT"])) as server:
        server.send_message(message)


@offload.task(queue_name="photos")
def make_thumbnails(name: str) -> int:
    THUMBS.mkdir(parents=True, exist_ok=True)
    for size in current_job.track(SIZES):
        with Image.open(UPLOADS / name) as image:
            image.thumbnail((size, size))
            image.convert("RGB").save(THUMBS / f"{Path(name).stem}-{size}.webp", method=6)
    return len(SIZES)


@offload.every("0 3 * * *")
def clean_up() -> int:
    removed = 0
    for path in UPLOADS.glob("*"):
        if path.stat().st_mtime < time.time() - WEEK:
            path.unlink()
            removed += 1
    return removed


@app.get("/")
def home() -> str:
    return """<!doctype html><title>Members</title>
<form action="/signup" method="post"><input name="address" type="email"><button>Join</button></form>
<form action="/photo" method="post" enctype="multipart/form-data">
<input name="photo" type="file"><button>Send a photo</button></form>"""


@app.post("/signup")
def signup() -> str:
    send_welcome.enqueue(request.form["address"])
    return "Welcome. A mail is on its way."


@app.post("/photo")
def photo() -> Response:
    file = request.files["photo"]
    name = secure_filename(file.filename or "photo")
    UPLOADS.mkdir(parents=True, exist_ok=True)
    file.save(UPLOADS / name)
    return offload.accepted(make_thumbnails.enqueue(name))
