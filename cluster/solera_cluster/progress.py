"""Says what is going on, how long it usually takes and how long it took."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

HEARTBEAT_SECONDS = 30.0


def duration(seconds: float) -> str:
    """Format seconds for a person: "0.4 s", "12 s", "3 min 05 s"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"


def say(text: str) -> None:
    """Print one line to standard error, at once: standard output belongs to results."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str, expected_seconds: float | None = None) -> Iterator[None]:
    """
    Announce a step, give a sign of life every half minute and say at its end what it took.

    A step that fails says so and lets the exception through.
    """
    begun = time.monotonic()
    usual = f" (usually about {duration(expected_seconds)})" if expected_seconds else ""
    say(f"  {title}{usual}")
    done = threading.Event()

    def reassure() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"    still {title}, {duration(time.monotonic() - begun)} so far")

    thread = threading.Thread(target=reassure, daemon=True)
    thread.start()
    outcome = "failed after"
    try:
        yield
        outcome = "took"
    finally:
        done.set()
        thread.join()
        say(f"    {outcome} {duration(time.monotonic() - begun)}")
