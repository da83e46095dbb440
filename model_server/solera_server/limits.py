"""What one client, or all of them together, may take of the server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Bounds of the HTTP layer and of the work that is accepted.

    Sizes are bytes, times are seconds. ``connections`` and ``in_flight`` count for the whole process:
    ``in_flight`` are predictions that wait or run, the next one is answered 503; so is one that would wait
    for longer than ``wait_seconds``. A connection that has been idle for ``spare_idle_seconds`` may be
    closed to make room for a new one. One request has at most ``rows`` rows, ``cells`` rows times features,
    and ``scores`` rows times classes. ``bodies_bytes`` bounds the bodies of requests that arrive or wait,
    in all; ``unread_bytes`` the answers that clients do not take.
    """

    body_bytes: int = 1024 * 1024
    header_bytes: int = 16 * 1024
    header_count: int = 100
    json_depth: int = 32
    rows: int = 10_000
    cells: int = 500_000
    scores: int = 200_000
    connections: int = 1024
    pipelined: int = 32
    bodies_bytes: int = 64 * 1024 * 1024
    unread_bytes: int = 64 * 1024 * 1024
    in_flight: int = 1024
    wait_seconds: float = 0.5
    receive_seconds: float = 10.0
    idle_seconds: float = 75.0
    spare_idle_seconds: float = 5.0
    write_seconds: float = 30.0
    connection_age_seconds: float = 60.0
