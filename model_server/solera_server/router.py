"""
From method and path to a handler.

A server has one model and one version, so every path is known when it starts and a request costs one
look-up in a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from solera_server.message import LENGTH_HEADER, Head, Request, Response, error_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Route:
    """
    What answers a method on a path.

    ``handler`` runs on the event loop and returns a response, or None when it will call
    ``request.respond`` later. ``protocol`` labels the metrics. ``reads_json`` says that a body is
    expected, and of which type; ``reads_binary`` that binary tensors may stand behind its JSON; ``predicts``
    that a plain body (plain_bodies.py) may be predicted together with others.
    """

    handler: Callable[[Request], Response | None]
    protocol: str
    reads_json: bool = False
    reads_binary: bool = False
    predicts: bool = False


class Router:
    """``routes`` maps a path to its methods; ``describe_missing`` words the 404 of any other path."""

    def __init__(
        self,
        routes: Mapping[bytes, Mapping[bytes, Route]],
        describe_missing: Callable[[str], str],
    ) -> None:
        self._routes = {path: dict(methods) for path, methods in routes.items()}
        for methods in self._routes.values():
            if b"GET" in methods:
                methods.setdefault(b"HEAD", methods[b"GET"])
        self._describe_missing = describe_missing

    def resolve(self, head: Head) -> Route | Response:
        """Return the route of a request with this head, or the 404, 405 or 415 that it gets."""
        path = head.path
        methods = self._routes.get(path)
        if methods is None:
            if b"%" in path:
                path = unquote_to_bytes(path)
            methods = self._routes.get(path)
        if methods is None:
            return error_response(404, self._describe_missing(path.decode("utf-8", "replace")[:200]))
        route = methods.get(head.method)
        if route is None:
            allow = b", ".join(sorted(methods))
            return error_response(
                405,
                f"{head.method.decode()} is not possible here; use {allow.decode()}",
                (b"allow", allow),
            )
        refusal = _unsupported_media(head, binary=route.reads_binary) if route.reads_json else None
        return refusal or route


# What `curl -d` says of any body unless told otherwise; such a body is read as JSON all the same.
_JSON_MEDIA = (b"application/json", b"application/x-www-form-urlencoded")


def _unsupported_media(head: Head, *, binary: bool) -> Response | None:
    coding = head.headers.get(b"content-encoding", b"identity")
    if coding.lower() != b"identity":
        return error_response(415, "a compressed body is not accepted; send it without Content-Encoding")
    announced = LENGTH_HEADER in head.headers
    if announced and not binary:
        return error_response(415, "binary tensors belong to V2; send JSON, or use /v2/models/…/infer")
    content_type = head.headers.get(b"content-type")
    if content_type is None or content_type == b"application/json":
        return None
    media, _, parameters = content_type.lower().partition(b";")
    charset = parameters.strip().replace(b'"', b"")
    if media.strip() in _JSON_MEDIA and charset in (b"", b"charset=utf-8"):
        return None
    if media.strip() == b"application/octet-stream" and binary:
        if announced:
            return None
        return error_response(415, "binary tensors need the header Inference-Header-Content-Length")
    return error_response(415, "the body must be JSON in UTF-8; send Content-Type: application/json")
