"""An app whose orders are a row and three jobs; its process can be killed before the relay.

Its settings come from the environment (FLASK_…). Each job writes its words into the file WITNESS.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_offload import Offload
from flask_offload.transactions import relay
from flask_offload.transactions.outbox import OutboxTable
from flask_offload_celery import producer


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
offload = Offload()


class Order(db.Model):  # type: ignore[name-defined, misc]
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(db.String(50))


@offload.task
def step(name: str, number: int) -> None:
    """One of the three jobs of an order."""
    with open(os.environ["WITNESS"], "a") as file:
        file.write(f"{name}{number}\n")


def create_app(**config: Any) -> Flask:
    """config: keys besides those of the environment."""
    app = Flask("order_app")
    app.config.from_prefixed_env()
    app.config.update(config)
    db.init_app(app)
    offload.init_app(app, db=db)
    app.add_url_rule("/", "home", lambda: "up")
    app.add_url_rule("/order/<name>", "order", order, methods=["POST"])
    if app.config.get("OFFLOAD_ENGINE") == "celery":
        # this process may be killed after it has recorded a job and before it sends its message
        producer.PATIENCE = 2.0  # type: ignore[misc]
    relay.DELETE_AFTER = 3600  # type: ignore[misc]  # so that rows of relayed jobs are there
    return app


def order(name: str) -> tuple[str, int]:
    """One transaction; "rolled" is rolled back, "killed" kills the process after its commit."""
    db.session.add(Order(name=name))
    for number in (1, 2, 3):
        step.enqueue(name, number)
    if name == "rolled":
        db.session.rollback()
        return "rolled back", 409
    if name == "killed":
        OutboxTable.take = _die  # type: ignore[method-assign, assignment]
    db.session.commit()
    return "committed", 200


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
