"""What to measure: a URL, how to request it, and whether its host is allowed."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import OffloadError
from .form import Fields

DEFAULT_ORIGIN = "http://127.0.0.1:5000"  # where `flask run` listens


class BadUrl(OffloadError):
    """This is not the URL of a web page: write http://127.0.0.1:5000/page, or just /page."""


class OtherServer(OffloadError):
    """The bystander's page has to be on the server that is under load."""

    def __init__(self, page: str, url: str) -> None:
        super().__init__(
            f"the bystander's page {page} is not on the server of {url}: nothing would be loaded "
            "there. Give its path only, such as /, which is asked for at each URL's own server"
        )


class HostNotAllowed(OffloadError):
    """Measuring sends many requests, so only this machine is allowed unless a host is allowed."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} is not this machine, and measuring sends many requests (and, with POST, "
            f"really submits the form): if {host} is yours, allow it with --allow-host {host}"
        )
        self.host = host


@dataclass(frozen=True, slots=True)
class Target:
    """One page to measure.

    fields: the form to submit, for POST. start: the page that the visitor comes from; if it has
    a form that posts to `url`, its hidden fields (such as a CSRF token) are sent too.
    headers: sent with every request, such as a session cookie; never stored.
    """

    url: str
    method: str = "GET"
    fields: Fields = ()
    start: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def full_url(text: str) -> str:
    """The URL that a user meant: a path alone is one of the app that `flask run` serves.

    Raises BadUrl.
    """
    url = DEFAULT_ORIGIN + text if text.startswith("/") else text
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadUrl(
            f"{text!r} is not the URL of a web page: write {DEFAULT_ORIGIN}/page, or just /page"
        )
    return url


def beside(page: str, target: Target) -> Target:
    """The bystander's page on the server of `target`. page: a path, or a URL on that server.

    Raises BadUrl; OtherServer for a URL elsewhere.
    """
    headers = target.headers
    if page.startswith("/"):
        return Target(target.origin + page, headers=headers)
    other = Target(full_url(page), headers=headers)
    if other.origin != target.origin:
        raise OtherServer(page, target.url)
    return other


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def check_host(url: str, allowed: Collection[str] = ()) -> None:
    """Raise HostNotAllowed unless the URL is on this machine, or its host is in `allowed`.

    A name other than localhost is refused even where it resolves to this machine: names change.
    """
    host = host_of(url)
    if not _is_loopback(host) and host not in allowed:
        raise HostNotAllowed(host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
