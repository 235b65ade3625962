"""What the album keeps. The files of a photo lie beside the database, under its id."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .extensions import db


class Member(db.Model):  # type: ignore[name-defined, misc]
    """Somebody who has joined."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    address: Mapped[str] = mapped_column(unique=True)
    photos: Mapped[list[Photo]] = relationship(back_populates="member")


class Photo(db.Model):  # type: ignore[name-defined, misc]
    """A photo. width and height are those of the original, once somebody has looked at it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey(Member.id))
    member: Mapped[Member] = relationship(back_populates="photos")
    width: Mapped[int | None]
    height: Mapped[int | None]
    job_id: Mapped[str | None]
    """The job that makes its thumbnails, to show how far it is."""

    @property
    def is_ready(self) -> bool:
        """Whether its thumbnails are there."""
        return self.width is not None
