"""HTTP status codes as gRPC's, and how a client is told when to come again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from solera_server.protobuf_bytes import field, varint

if TYPE_CHECKING:
    from solera_server.message import Response

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    # Not RESOURCE_EXHAUSTED: to send it again does not help.
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def status_code(status: int) -> grpc.StatusCode:
    """Return gRPC's counterpart of an HTTP status code."""
    return _CODES.get(status, grpc.StatusCode.UNKNOWN)


def retry_metadata(response: Response, code: grpc.StatusCode, message: str) -> list[tuple[str, str | bytes]]:
    """
    Return the trailing metadata by which a response with Retry-After says the same.

    Both ways in which gRPC has it: the pushback that the retries of its libraries obey, and the RetryInfo of
    a google.rpc.Status.
    """
    given = dict(response.headers).get(b"retry-after", b"")
    if not given.isdigit():
        return []
    seconds = int(given)
    # The messages of google.rpc are in no package of ours.
    info = field(1, Duration(seconds=seconds).SerializeToString())
    detail = AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info)
    status = (
        b"\x08" + varint(code.value[0]) + field(2, message.encode()) + field(3, detail.SerializeToString())
    )
    return [("grpc-retry-pushback-ms", str(seconds * 1000)), ("grpc-status-details-bin", status)]
