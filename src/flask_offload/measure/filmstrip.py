"""What the screen showed, every 100 ms, from the page before to the finished page."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .samples import Filmstrip, Frame

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

STEP_MS = 100
WIDTH = 300
QUALITY = 60
BUDGET = 180_000
"""Bytes of JPEG that the strips of one report may hold; base64 adds a third."""
MAX_CELLS = 60


class Camera:
    """Records a tab through Chromium's screencast.

    Chromium sends a frame only when the picture changes, and waits for the last one to be
    acknowledged. Stamps are about 40 ms off: FCP must not be read from a strip.
    """

    def __init__(self, cdp: CDPSession) -> None:
        self._cdp = cdp
        self._shots: list[tuple[float, bytes]] = []

    def start(self) -> None:
        self._cdp.on("Page.screencastFrame", self._keep)
        self._cdp.send(
            "Page.startScreencast",
            {"format": "jpeg", "quality": QUALITY, "maxWidth": WIDTH, "maxHeight": WIDTH},
        )

    @property
    def rolling(self) -> bool:
        return bool(self._shots)

    def _keep(self, event: dict[str, Any]) -> None:
        stamp = event["metadata"].get("timestamp")
        if stamp is not None:
            self._shots.append((stamp, base64.b64decode(event["data"])))
        self._cdp.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    def develop(self, time_origin_ms: float) -> Filmstrip | None:
        """The strip, with times relative to the navigation; None if nothing was filmed."""
        return strip_of([(stamp * 1000 - time_origin_ms, image) for stamp, image in self._shots])


def strip_of(shots: Sequence[tuple[float, bytes]]) -> Filmstrip | None:
    """Order the shots; of those before the navigation only the last one is kept, at 0 ms."""
    ordered = sorted(shots, key=lambda shot: shot[0])
    before = [image for at, image in ordered if at <= 0]
    frames = [Frame(0.0, before[-1])] if before else []
    frames += [Frame(at, image) for at, image in ordered if at > 0]
    if not frames:
        return None
    width, height = jpeg_size(frames[-1].image)
    return Filmstrip(tuple(frames), width, height)


def jpeg_size(image: bytes) -> tuple[int, int]:
    """Width and height from the frame header (ITU-T T.81, B.2.2). Raises ValueError."""
    position = 2
    while position + 9 <= len(image):
        marker, length = struct.unpack(">HH", image[position : position + 4])
        if 0xFFC0 <= marker <= 0xFFC3:
            height, width = struct.unpack(">HH", image[position + 5 : position + 9])
            return width, height
        position += 2 + length
    raise ValueError("not a JPEG image")


@dataclass(frozen=True, slots=True)
class FilmCell:
    """One step of a strip: which picture was on the screen at that time."""

    at_ms: int
    picture: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Sheet:
    """Several strips on one time scale; each distinct picture is kept once."""

    step_ms: int
    pictures: tuple[bytes, ...]
    strips: tuple[tuple[FilmCell, ...], ...]


def contact_sheet(strips: Sequence[Filmstrip], *, budget: int = BUDGET) -> Sheet:
    """Cut the strips into steps of 100 ms, or of 200, 400 … if they do not fit.

    budget: bytes of all distinct pictures together.
    """
    end_ms = max((strip.frames[-1].at_ms for strip in strips), default=0.0)
    step = STEP_MS
    while True:
        count = int(-(-end_ms // step)) + 2  # the step that shows the last frame, and one more
        sheet = _cut(strips, step, count)
        size = sum(len(picture) for picture in sheet.pictures)
        if (size <= budget and count <= MAX_CELLS) or count <= 3:
            return sheet
        step *= 2


def _cut(strips: Iterable[Filmstrip], step: int, count: int) -> Sheet:
    pictures: dict[bytes, int] = {}
    cut = []
    for strip in strips:
        cells: list[FilmCell] = []
        for at_ms in range(0, count * step, step):
            image = _showing(strip, at_ms)
            picture = pictures.setdefault(image, len(pictures))
            changed = bool(cells) and cells[-1].picture != picture
            cells.append(FilmCell(at_ms, picture, changed))
        cut.append(tuple(cells))
    return Sheet(step, tuple(pictures), tuple(cut))


def _showing(strip: Filmstrip, at_ms: float) -> bytes:
    """The last frame that had arrived by then."""
    shown = [frame for frame in strip.frames if frame.at_ms <= at_ms]
    return (shown[-1] if shown else strip.frames[0]).image
