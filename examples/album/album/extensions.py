"""The extensions, in a module of their own, so that every other module can import them."""

from __future__ import annotations

from flask_mail import Mail
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_offload import Offload


class Base(DeclarativeBase):
    """The base of all models."""


db = SQLAlchemy(model_class=Base)
mail = Mail()
offload = Offload()
