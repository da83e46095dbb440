"""How many bytes all connections together may keep in memory."""

from __future__ import annotations

from solera_server.message import error_response


class Budget:
    """Bytes of the bodies that are being received or wait; ``refusal`` answers the one that is too many."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self.refusal = error_response(
            503, f"the bodies of all requests together are larger than {limit} bytes", (b"retry-after", b"1")
        )

    def take(self, size: int) -> bool:
        """Count bytes in; False, and nothing counted, when there is no room."""
        if self.used + size > self._limit:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        self.used -= size
