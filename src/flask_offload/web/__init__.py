"""Jobs over HTTP: their addresses, their pages, and views that become jobs."""

from .accepted import accepted
from .blueprint import make_blueprint
from .respond_async import respond_async

__all__ = ["accepted", "make_blueprint", "respond_async"]
