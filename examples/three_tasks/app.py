"""Three tasks: add two numbers, block for a while, work with progress.

Run it with `flask --app app run` in this folder; no broker and no second process is needed.
"""

from __future__ import annotations

import time

from flask import Flask, Response, request

from flask_offload import Offload, current_job

app = Flask(__name__)
offload = Offload(app)

PAGE = """<!doctype html><title>Three tasks</title>
<form method="post" action="add"><input name="a" value="1"> + <input name="b" value="2">
<button>Add</button></form>
<form method="post" action="block"><button>Block</button></form>
<form method="post" action="process"><input name="total" value="20"><button>Work</button></form>"""


@offload.task(expose="result")
def add(a: int, b: int) -> int:
    return a + b


@offload.task
def block(seconds: float = 5) -> None:
    time.sleep(seconds)


@offload.task(expose="result")
def process(total: int, pause: float = 0.5) -> int:
    for _ in current_job.track(range(total)):
        time.sleep(pause)
    return total


@app.get("/")
def home() -> str:
    return PAGE


@app.post("/add")
def start_add() -> Response:
    return offload.accepted(add.enqueue(int(request.form["a"]), int(request.form["b"])))


@app.post("/block")
def start_block() -> Response:
    return offload.accepted(block.enqueue())


@app.post("/process")
def start_process() -> Response:
    return offload.accepted(process.enqueue(int(request.form["total"])))
