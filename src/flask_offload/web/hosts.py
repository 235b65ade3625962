"""Addresses on each host of an app that routes by host or by subdomain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, current_app, has_request_context, request
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response as BaseResponse

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""All methods are routed, so that unsupported ones get our 405 instead of Flask's."""
HOST, SUBDOMAIN = "offload_host", "offload_subdomain"


class EveryHost(Blueprint):
    """A blueprint whose addresses exist on each host of the app, as in an app that does not look at
    the host: a page and the jobs that it made are then of one origin for the browser.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url_value_preprocessor(_forget_host)
        self.app_url_defaults(_add_host)

    def add_methods(
        self,
        not_allowed: Callable[[str], Response],
        rule: str,
        endpoint: str,
        strict_slashes: bool | None = None,
        **handlers: Callable[..., BaseResponse | str],
    ) -> None:
        """Add an address whose handlers are given by their methods. Other methods get the answer
        that `not_allowed` makes of a sentence, with `Allow`."""
        allow = ", ".join([*handlers, *(["HEAD"] if "GET" in handlers else []), "OPTIONS"])

        def view(**values: str) -> BaseResponse | str:
            method = "GET" if request.method == "HEAD" else request.method
            if method == "OPTIONS":
                return Response(status=204, headers={"Allow": allow})
            if method not in handlers:
                response = not_allowed(f"This address does not take {method}, only {allow}.")
                response.headers["Allow"] = allow
                return response
            return handlers[method](**values)

        self.add_url_rule(
            *(rule, endpoint, view),
            methods=METHODS,
            provide_automatic_options=False,
            strict_slashes=strict_slashes,
        )

    def make_setup_state(
        self, app: App, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        return _OnEachHost(self, app, options, first_registration)


class _OnEachHost(BlueprintSetupState):
    def add_url_rule(self, rule: str, *arguments: Any, **options: Any) -> None:
        assert isinstance(self.app, Flask)
        if self.app.url_map.host_matching:
            options["host"] = f"<{HOST}>"
        elif self.app.subdomain_matching:
            super().add_url_rule(rule, *arguments, **options, subdomain=f"<{SUBDOMAIN}>")
        super().add_url_rule(rule, *arguments, **options)


def _forget_host(endpoint: str | None, values: dict[str, Any] | None) -> None:
    for name in (HOST, SUBDOMAIN):
        (values or {}).pop(name, None)


def _add_host(endpoint: str, values: dict[str, Any]) -> None:
    """Build addresses on the host of the request; outside of one, on SERVER_NAME."""
    url_map, server_name = current_app.url_map, current_app.config["SERVER_NAME"] or ""
    host = request.host if has_request_context() else server_name
    if url_map.is_endpoint_expecting(endpoint, HOST):
        values.setdefault(HOST, host)
    elif host.endswith(f".{server_name}") and url_map.is_endpoint_expecting(endpoint, SUBDOMAIN):
        values.setdefault(SUBDOMAIN, host.removesuffix(f".{server_name}"))
