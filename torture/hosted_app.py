"""The app that odd hosts serve: its jobs write down with which configuration they ran."""

from __future__ import annotations

import os
import time

from flask import Flask, current_app

from flask_offload import Offload

offload = Offload()


def write(line: str) -> None:
    """One line in the file NOTES, in one write."""
    descriptor = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@offload.task
def charge(seconds: float) -> None:
    write(f"began {current_app.config['PAYMENTS']} {os.getpid()}")
    time.sleep(seconds)
    write(f"done {current_app.config['PAYMENTS']} {os.getpid()}")


def create_app(kind: str = "sandbox") -> Flask:
    app = Flask("torture.hosted_app", instance_path=os.getcwd())
    app.config["PAYMENTS"] = os.environ.get("PAYMENTS", kind)
    offload.init_app(app)
    app.add_url_rule("/", "home", lambda: str(os.getpid()))
    app.add_url_rule("/charge/<float:seconds>", "go", lambda seconds: charge.enqueue(seconds).id)
    return app
