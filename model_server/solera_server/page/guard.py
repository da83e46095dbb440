"""
Who may ask the management port for the page, and for what else a browser should not get for a stranger.

A port-forward puts the port on the loopback of somebody's machine, where any web page that they look at can
send requests to it: with a form or a script across sites, or under a name of its own that it lets point to
127.0.0.1 (DNS rebinding). So the host must be one that no stranger can choose, and what is posted must be
JSON, for which a browser asks first when it comes from another site.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from solera_server.message import Request, Response, error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Handler = Callable[[Request], Response | None]

_SAME_SITE = (b"same-origin", b"none")


class Guard:
    """``hosts`` are names that are allowed beside loopback's, this machine's own, and addresses."""

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in (socket.gethostname(), *hosts))

    def reading(self, handler: Handler) -> Handler:
        """Return a handler that answers only if the host is one of ours."""

        def handle(request: Request) -> Response | None:
            return self._foreign_host(request) or handler(request)

        return handle

    def posting(self, handler: Handler) -> Handler:
        """Return a handler that answers only JSON from a page of our own, or from what is no browser."""

        def handle(request: Request) -> Response | None:
            return (
                self._foreign_host(request) or _foreign_page(request) or _no_json(request) or handler(request)
            )

        return handle

    def _foreign_host(self, request: Request) -> Response | None:
        given = request.headers.get(b"host")
        # Browsers always name one; what does not is not misled by a name.
        if not given or self._own(given.decode("latin-1")):
            return None
        return error_response(
            421,
            "this name is not known to lead here; use localhost or an address, or start the server with "
            "--page-host NAME",
        )

    def _own(self, host: str) -> bool:
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        name = name.lower().removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _foreign_page(request: Request) -> Response | None:
    headers = request.headers
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    if site is not None and site not in _SAME_SITE:
        return error_response(403, "requests from other sites' pages are not answered here")
    if origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower():
        return error_response(403, "requests from other sites' pages are not answered here")
    return None


def _no_json(request: Request) -> Response | None:
    media, _, _ = request.headers.get(b"content-type", b"").partition(b";")
    if media.strip().lower() == b"application/json":
        return None
    return error_response(415, "the management port takes JSON only; send Content-Type: application/json")
