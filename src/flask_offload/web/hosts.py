"""Addresses on each host of an app that routes by host or by subdomain."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, current_app, has_request_context, request
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState

HOST, SUBDOMAIN = "offload_host", "offload_subdomain"


class EveryHost(Blueprint):
    """A blueprint whose addresses exist on each host of the app, as in an app that does not look at
    the host: a page and the jobs that it made are then of one origin for the browser.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url_value_preprocessor(_forget_host)
        self.app_url_defaults(_add_host)

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
