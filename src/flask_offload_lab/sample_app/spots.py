"""Five slow routes for Spot. Each has one line that blocks, each for another reason."""

from __future__ import annotations

import json
import re
import smtplib
import threading
import time
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from flask import Blueprint, request

from ..photo import thumbnails
from .settings import portrait, settings

spots = Blueprint("spots", __name__, url_prefix="/spots")
stock = threading.Lock()
TAGS = re.compile(r"(\w+\s?)+#")


# --- 1 -----------------------------------------------------------------------------------------


@spots.get("/newsletter")
def newsletter() -> str:
    address = request.args.get("address", "reader@visitors.example").lower()
    message = EmailMessage()
    message["From"] = "site@nanosecond.example"
    message["To"] = address
    message["Subject"] = "Please confirm"
    message.set_content("Press the link to confirm.\n")
    deliver(message)
    return f"We have sent a mail to {address}.\n"


def deliver(message: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", settings().smtp_port) as server:
        server.send_message(message)


# --- 2 -----------------------------------------------------------------------------------------


@spots.get("/gallery")
def gallery() -> str:
    photos = [portrait()] * 3
    with TemporaryDirectory() as folder:
        count = resize_all(photos, Path(folder))
    return f"The gallery has {count} new pictures.\n"


def resize_all(photos: list[bytes], folder: Path) -> int:
    count = 0
    for photo in photos:
        for _ in thumbnails(photo, folder):
            count += 1
    return count


# --- 3 -----------------------------------------------------------------------------------------


@spots.get("/weather")
def weather() -> str:
    city = request.args.get("city", "Arlington")
    address = f"{settings().lab_origin}/slow/forecast"
    with urlopen(address, timeout=30) as answer:
        forecast = json.load(answer)
    degrees = round(forecast["celsius"])
    return f"{city}: {degrees} degrees, {forecast['sky']}.\n"


# --- 4 -----------------------------------------------------------------------------------------


@spots.get("/tags")
def tags() -> str:
    text = request.args.get("text", "wireandnanosecondandlig!")
    words = text.split()
    if len(words) > 50:
        return "That is too long.\n"
    return "Thanks.\n" if TAGS.fullmatch(text) else "Tags end with a #.\n"


# --- 5 -----------------------------------------------------------------------------------------


@spots.get("/order")
def order() -> str:
    item = request.args.get("item", "thirty centimetres of wire")
    price = len(item) * 0.11
    with stock:
        left = 12
    total = round(price * 1.19, 2)
    return f"{item}: {total}; {left} left.\n"


@spots.get("/stocktaking")
def stocktaking() -> str:
    """Count everything in another thread, which holds the lock meanwhile."""
    threading.Thread(target=count_everything).start()
    return "Counting.\n"


def count_everything() -> None:
    with stock:
        time.sleep(1.0)
