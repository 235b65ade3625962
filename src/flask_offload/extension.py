"""The extension object, `Offload`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar, overload

from flask import Flask, Response

from . import dashboard, web
from .checks import check_all
from .config import Config
from .engines.base import Finding
from .jobs.job import Job
from .profiler import timing
from .profiler.install import install as install_profiler
from .state import AppRegistry, AppState
from .web.poll_log import quieten

P = ParamSpec("P")
R = TypeVar("R")


class Offload(AppRegistry):
    """Background work for Flask apps.

    Create one at module level, declare tasks on it, and pass it the app or, in a factory, call
    `init_app`. It holds what is declared; the state of each app is separate, so that one Offload
    can serve several apps.
    """

    span: ClassVar[type[timing.span]] = timing.span

    def __init__(self, app: Flask | None = None, *, db: Any = None, metadata: Any = None) -> None:
        super().__init__()
        self._db, self._metadata = db, metadata
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, db: Any = None, metadata: Any = None) -> None:
        """Read the app's OFFLOAD_* settings and add the job resource and the commands.

        db: Flask-SQLAlchemy, Flask-SQLAlchemy-Lite, or a scoped_session: a job that is enqueued
        after a write in the session's transaction then exists if that commits. metadata: where the
        table `offload_outbox` is added, if db has no `metadata`.

        Raises ConfigError for settings that can't be used, and RuntimeError if the app has an
        Offload already.
        """
        if "offload" in app.extensions:
            same = app.extensions["offload"] is self
            raise RuntimeError(
                "init_app was called twice with this app: remove one of the calls"
                if same
                else "this app has another Offload already: import that one"
                " (app.extensions['offload']) instead of making a second"
            )
        if db is None:
            db, metadata = self._db, self._metadata
        state = AppState(app, self, Config.from_app(app), db, metadata)
        app.extensions["offload"] = self
        self.states[app] = state
        self.apps_made += 1
        app.register_blueprint(web.make_blueprint(self), url_prefix=state.config.url_prefix)
        dashboard.install(app, self, state.config.url_prefix)
        if not state.config.log_polls:
            quieten(app, state.config.url_prefix)
        install_profiler(app, state.profiler_settings())
        app.before_request(state.on_request)
        app.cli.add_command(_commands())

    def health(self) -> list[Finding]:
        """What `flask offload check` finds in the current app: settings, database, workers, queues
        and jobs. It takes up to seconds, and raises nothing but NotInitialized."""
        return check_all(self.current_state())

    def accepted(self, job: Job, *, then: str | None = None) -> Response:
        """A response for a request whose work continues in `job`: 202 with its address; browsers
        are redirected to its page (303).

        then: where the page leads when the job has succeeded, such as `url_for("show", id=1)`.
        Raises ValueError if that is not an address of this app.
        """
        self.current_state()
        return web.accepted(job, then)

    @overload
    def respond_async(self, view: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def respond_async(
        self, view: None = None, /, **options: Any
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def respond_async(self, view: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Run a whole view as a job when the client sends `Prefer: respond-async` (RFC 7240).

        wait: seconds to wait for the result before answering 202. always: True, or the methods that
        become jobs without the header too. headers, session: further request headers and session
        keys that the view reads. owner: a function, called in the request, that returns whom the
        job belongs to. Other options: those of `@offload.task`. Raises OptionError.
        """
        if view is None:
            return functools.partial(web.respond_async, self, **options)
        return web.respond_async(self, view, **options)


def _commands() -> Any:
    from .cli import offload_group  # imported only where commands are used

    return offload_group
