"""The PostgreSQL engine: durable jobs for many machines, without a broker."""

from .engine import PostgresEngine

__all__ = ["PostgresEngine"]
