"""Add `Server-Timing` and the profiler to an app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from flask import Flask

from .middleware import ProfilerMiddleware
from .profiler import Profiler
from .spot_report import SpotReport
from .timing import Allowed, TimingMiddleware


@dataclass(frozen=True, slots=True)
class ProfilerSettings:
    """server_timing: who gets the header, as OFFLOAD_SERVER_TIMING. spot: as OFFLOAD_SPOT, True,
    False or the fraction of requests to profile. None, for both: in debug and testing.
    spot_above_ms: requests slower than this are reported. store_path: the evidence file; None: only
    the log. is_task: whether a function's code is that of a declared task. on_report: is called, in
    the sampler's thread, with the report of each slow request.
    """

    server_timing: Allowed = None
    spot: bool | float | None = None
    spot_above_ms: float = 200.0
    store_path: Path | None = None
    is_task: Callable[[CodeType], bool] = lambda code: False
    on_report: Callable[[SpotReport], None] | None = None


def install(app: Flask, settings: ProfilerSettings) -> None:
    """Wrap the app's `wsgi_app`. Call it once for each app."""
    if settings.server_timing is not False:
        app.wsgi_app = TimingMiddleware(app, settings.server_timing)  # type: ignore[method-assign]
    profiler = Profiler(
        app,
        settings.spot_above_ms / 1000,
        settings.store_path,
        settings.is_task,
        settings.on_report,
    )
    # even when it is off: no_blocking() needs it
    middleware = ProfilerMiddleware(app, profiler, settings.spot)
    app.wsgi_app = middleware.handle  # type: ignore[method-assign]
