"""The server's event loop, in tests, where a warning is an error."""

from __future__ import annotations

import warnings

import uvloop


class ClosingLoop(uvloop.Loop):
    """
    uvloop's loop, whose ``close`` ends although something was left open, and says then what.

    uvloop warns of each open transport just before it closes it. Where that warning raises, the transport stays
    open, and uvloop waits for its end without a limit: a test that failed with a connection open would hang in
    place of showing why it failed (pytest-asyncio's issue 1134). So the warnings come when all is closed.
    A server's own process is not concerned: Python passes over this warning unless asked for it.
    """

    def close(self) -> None:
        """Close the loop; raises ResourceWarning, where that is an error, of the first of what was open."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            super().close()
        for one in caught:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, source=one.source)
