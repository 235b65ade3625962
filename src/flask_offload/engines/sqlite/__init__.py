"""The embedded engine: durable jobs in one SQLite file, no broker."""

from .engine import SqliteEngine

__all__ = ["SqliteEngine"]
