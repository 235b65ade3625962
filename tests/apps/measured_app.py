"""An app whose pages do, on purpose, what the measuring must be able to tell apart."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib
from collections.abc import Iterator

from flask import Flask, Response, abort, g, redirect, request, session, url_for
from werkzeug.wrappers import Response as BaseResponse

BLOCK_S = float(os.environ.get("EVIDENCE_BLOCK_S", "0.6"))

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 18px sans-serif; margin: 2em }} img {{ width: 480px; height: 320px }}</style>
</head><body><h1 id="top" class="big">{title}</h1><p>Some text.</p>{body}</body></html>"""

ROWS = "<ul>" + "".join(f"<li>row {number}</li>" for number in range(20)) + "</ul>"
HERO = '<p><img src="/hero.png" alt=""></p>'

BANNER = """<script>setTimeout(() => {
  const banner = document.createElement("div");
  banner.style.height = "200px";
  banner.textContent = "Your mail has been sent";
  document.body.prepend(banner);
}, 150)</script>"""

THRASH = """<ul id="list"></ul><script>
const list = document.getElementById("list");
for (let number = 0; number < 100; number++) {
  const row = document.createElement("li");
  row.textContent = "row " + number;
  list.append(row);
  row.offsetHeight;
}</script>"""

ONE_PIECE = """<ul id="list"></ul><script>
const list = document.getElementById("list");
list.innerHTML = "<li><b>row</b></li>".repeat(1000);
list.replaceChildren();
</script>"""

POLL = """<p id="status">waiting</p><script>
let left = 4;
const timer = setInterval(() => {
  document.getElementById("status").textContent = "asked, " + left + " to go";
  if (!--left) clearInterval(timer);
}, 100)</script>"""

LATE = """<script>setTimeout(() => {
  const result = document.createElement("p");
  result.style.font = "bold 60px sans-serif";
  result.textContent = "The report that took so long is ready. ".repeat(4);
  document.body.append(result);
}, 700)</script>"""

FULL = """<!doctype html><title>Full</title><style>body { margin: 0 }
img { position: fixed; inset: 0; width: 100vw; height: 100vh }</style>
<img src="/hero.png" alt="">"""

FORM = """<!doctype html><title>Sign up</title><h1>Sign up</h1>
<form method="post" action="/form" enctype="multipart/form-data">
<input type="hidden" name="token" value="{token}"><input name="user"><input name="submit">
<input type="file" name="photo"><button>Go</button></form>"""


def create_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "only for tests"

    @app.before_request
    def start_clock() -> None:
        g.began = time.monotonic()

    @app.after_request
    def server_timing(response: Response) -> Response:
        took = (time.monotonic() - g.began) * 1000
        response.headers["Server-Timing"] = f'total;dur={took:.1f};desc="the app, itself"'
        return response

    @app.get("/")
    def index() -> str:
        return PAGE.format(title="The bystander's page", body="")

    @app.get("/sync")
    def sync() -> str:
        time.sleep(BLOCK_S)  # stands for sending a mail
        return PAGE.format(title="Done", body=ROWS + HERO)

    @app.get("/background")
    def background() -> str:
        return PAGE.format(title="Done", body=ROWS + HERO)

    @app.get("/text")
    def text() -> str:
        return PAGE.format(title="Only text", body=ROWS)

    @app.get("/banner")
    def banner() -> str:
        return PAGE.format(title="Done", body=ROWS + BANNER)

    @app.get("/thrash")
    def thrash() -> str:
        return PAGE.format(title="Done", body=ROWS + THRASH)

    @app.get("/one-piece")
    def one_piece() -> str:
        return PAGE.format(title="Done", body=ROWS + ONE_PIECE)

    @app.get("/poll")
    def poll() -> str:
        return PAGE.format(title="Done", body=ROWS + POLL)

    @app.get("/late")
    def late() -> str:
        return PAGE.format(title="Wait", body=LATE)

    @app.get("/flat")
    def flat() -> str:
        return PAGE.format(title="A flat picture", body='<img src="/flat.png" alt="">')

    @app.get("/full")
    def full() -> str:
        return FULL

    @app.get("/slow-picture")
    def slow_picture() -> str:
        return PAGE.format(title="Done", body='<img src="/slow.png" alt="">')

    @app.get("/other-origin")
    def other_origin() -> str:
        port = request.host.rpartition(":")[2]
        body = f'<img src="http://localhost:{port}/hero.png" alt="">'
        return PAGE.format(title="Another origin", body=body)

    @app.get("/empty")
    def empty() -> str:
        return "<!doctype html><title>nothing</title>"

    @app.get("/strict")
    def strict() -> Response:
        response = Response(PAGE.format(title="Strict", body=""))
        response.headers["Content-Security-Policy"] = "default-src 'none'"
        return response

    @app.get("/elsewhere")
    def elsewhere() -> str:
        body = '<img src="http://cdn.example.com/logo.png" alt="">'
        return PAGE.format(title="Third party", body=body)

    @app.get("/stream")
    def stream() -> Response:
        def body() -> Iterator[str]:
            yield PAGE.format(title="Early", body="").ljust(2000)
            time.sleep(BLOCK_S)
            yield "<h2>Late, and much larger than all that came before it</h2>" * 6

        return Response(body(), mimetype="text/html")

    @app.get("/form")
    def form() -> str:
        session["token"] = "t0ken"
        return FORM.format(token="t0ken")

    @app.post("/form")
    def submit() -> BaseResponse:
        if request.form.get("token") != session.get("token", "none"):
            abort(400)
        photo = request.files.get("photo")
        time.sleep(BLOCK_S)
        size = len(photo.read()) if photo else 0
        return redirect(url_for("done", user=request.form.get("user"), size=size), 303)

    @app.post("/plain-form")
    def plain_form() -> BaseResponse:
        time.sleep(BLOCK_S)
        return redirect(url_for("done", user=request.form.get("user")), 303)

    @app.get("/done")
    def done() -> str:
        who = f"{request.args.get('user')}, {request.args.get('size')} bytes"
        return PAGE.format(title=f"Thank you, {who}", body="")

    @app.get("/whoami")
    def whoami() -> str:
        known = request.cookies.get("session_id"), request.headers.get("X-Test")
        if known != ("s3cret", "yes"):
            abort(403)
        return PAGE.format(title="Welcome back", body="")

    @app.get("/broken")
    def broken() -> Response:
        return Response("out of order", status=500)

    @app.get("/download")
    def download() -> Response:
        return Response("a,b", headers={"Content-Disposition": "attachment; filename=a.csv"})

    @app.get("/hero.png")
    def hero() -> Response:
        return Response(noise_png(240, 160), mimetype="image/png")

    @app.get("/slow.png")
    def slow() -> Response:
        time.sleep(BLOCK_S)  # stands for a line at the door
        return hero()

    @app.get("/flat.png")
    def flat_picture() -> Response:
        return Response(flat_png(480, 320), mimetype="image/png")

    return app


def noise_png(width: int, height: int) -> bytes:
    """A picture with enough entropy to count for LCP."""
    noise = random.Random(7)
    return _png(width, height, [noise.randbytes(width * 3) for _ in range(height)])


def flat_png(width: int, height: int) -> bytes:
    """A black picture, one bit a pixel: so small that Chromium does not count it for LCP."""
    return _png(width, height, [bytes(width // 8)] * height, depth=1, colour=0)


def _png(width: int, height: int, rows: list[bytes], *, depth: int = 8, colour: int = 2) -> bytes:

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )
