"""Who may use the dashboard in a request, and whether an action was meant by them.

Any page in an operator's browser can send requests to the app, and to 127.0.0.1 under a host name
of its own (DNS rebinding). So an action needs a token from a page of the dashboard, pages are not
given to scripts of other sites, and where no function of the app decides, the Host header has to
name this machine.
"""

from __future__ import annotations

import hmac
import inspect
import ipaddress
import logging
import secrets
from typing import Any, Literal
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from ..jobs import log
from ..state import AppRegistry

Access = Literal["full", "read"]

COOKIE = "offload_dashboard_token"
FIELD = "offload_token"

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""Headers of proxies. A request that came through one is not of the peer that sent it here."""


def access(offload: AppRegistry) -> Access | None:
    """What this request may do; None: nothing, and the dashboard is not found."""
    if not offload.current_state().config.dashboard or _is_script_of_another_site():
        return None
    if offload.dashboard_accessor is None:
        return "full" if current_app.debug and _is_on_this_machine() else None
    answer = _ask(offload.dashboard_accessor)
    if answer is True:
        return "full"
    return "read" if isinstance(answer, str) and answer == "read" else None


def _ask(function: Any) -> Any:
    """What the app's function answers; None, which is no access, for any failure of it."""
    try:
        answer = current_app.ensure_sync(function)()
    except HTTPException:  # abort(403) is a way to say no
        return None
    except Exception as error:
        message = "the dashboard stays closed: the function of @offload.dashboard_access raised %s"
        log.write(logging.ERROR, "dashboard_access_failed", message, repr(error))
        return None
    if inspect.iscoroutine(answer):
        answer.close()
    return answer


def _is_on_this_machine() -> bool:
    """Whether the peer of the connection is this machine, and its browser meant this app.

    A proxy's headers can only close it: with one in front, all visitors have the proxy's address.
    """
    peers = [request.environ.get("REMOTE_ADDR")]
    if "werkzeug.proxy_fix.orig" in request.environ:
        peers.append(request.environ["werkzeug.proxy_fix.orig"].get("REMOTE_ADDR"))
    if any(name in request.headers for name in FORWARDED) or not all(map(_is_loopback, peers)):
        return False
    name = urlsplit(f"//{request.host}").hostname or ""
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _is_loopback(text: Any) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_script_of_another_site() -> bool:
    """Whether a page of another site asks for anything but to be left for this one: an app may
    answer all origins (CORS), which must not open the dashboard to them."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site in ("none", "same-origin"):
        return False
    is_link = request.headers.get("Sec-Fetch-Dest") == "document"
    return not (is_link and request.method in ("GET", "HEAD"))


# --- the token of actions ----------------------------------------------------------------------


def token() -> str:
    """The value of FIELD in the forms of this visitor; `keep_token` sends it as a cookie too."""
    known = request.cookies.get(COOKIE, "")
    if "offload_dashboard_token" not in g:
        g.offload_dashboard_token = known if len(known) >= 32 else secrets.token_urlsafe(32)
    made: str = g.offload_dashboard_token
    return made


def keep_token(response: Response, path: str) -> None:
    """Set the cookie if a form of this page needs it. path: of the dashboard."""
    made = g.get("offload_dashboard_token")
    if made is not None and made != request.cookies.get(COOKIE):
        response.set_cookie(
            COOKIE, made, path=path, secure=request.is_secure, httponly=True, samesite="Strict"
        )


def is_meant() -> bool:
    """Whether this POST comes from a form of the dashboard, of the same visitor.

    Where the app has Flask-WTF's CSRFProtect, its token is checked too: raises its CSRFError.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return False
    known, sent = request.cookies.get(COOKIE, ""), request.form.get(FIELD, "")
    if len(known) < 32 or not hmac.compare_digest(known.encode(), sent.encode()):
        return False
    protect = getattr(current_app.extensions.get("csrf"), "protect", None)
    if protect is not None and current_app.config.get("WTF_CSRF_ENABLED", True):
        protect()
    return True


def exempt_from_flask_wtf(app: Flask, name: str) -> None:
    """CSRFProtect checks POSTs before anything else, and so would show that a closed dashboard is
    there: leave this blueprint to `is_meant`, which calls it later. name: of the blueprint."""
    protection = app.extensions.get("csrf")
    if protection is not None and hasattr(protection, "exempt"):
        protection.exempt(app.blueprints[name])
