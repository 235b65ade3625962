"""Engines: where jobs are kept."""
