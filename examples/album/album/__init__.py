"""A small photo album: people join, send photos, and do not wait for mail or thumbnails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask

from .commands import commands
from .extensions import db, mail, offload
from .views import views


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The app. Settings come from the environment, as FLASK_…; config goes before that."""
    app = Flask(__name__)
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI="sqlite:///album.sqlite3",
        MAIL_SERVER="127.0.0.1",
        MAIL_PORT=1025,
        MAIL_DEFAULT_SENDER="album@example.com",
        MAX_CONTENT_LENGTH=16 * 1024 * 1024,
        ALBUM_FOLDER=app.instance_path,  # for photos; workers on other machines need it too
        KEEP_ORIGINALS_DAYS=30,
    )
    app.config.from_prefixed_env()  # FLASK_OFFLOAD_ENGINE, FLASK_CELERY__broker_url …
    app.config.from_mapping(config)
    db.init_app(app)
    mail.init_app(app)
    # last: by now the settings are complete. db: jobs commit with the rows that they are about
    offload.init_app(app, db=db)
    app.register_blueprint(views)
    app.register_blueprint(commands)
    return app
