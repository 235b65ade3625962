"""The Celery engine: the same tasks on the app's own Celery, with Redis or RabbitMQ."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from flask_offload.errors import ConfigError

if TYPE_CHECKING:
    from flask_offload.engine_api import Host

    from .engine import CeleryEngine


def make_engine(host: Host) -> CeleryEngine:
    """The entry point `celery` of the group flask_offload.engines. Raises ConfigError."""
    for package in ("celery", "redis"):
        if find_spec(package) is None:
            raise ConfigError(
                f"OFFLOAD_ENGINE = 'celery' needs {package}, which is not installed:"
                " pip install 'Flask-Offload[celery]'"
            )
    from .engine import CeleryEngine

    return CeleryEngine(host)
