"""Sends constant requests from within the cluster and counts what goes wrong. Standard library only.

Runs in a pod. LOAD is JSON: {"seconds": 300, "targets": [{"name", "url", "host"?, "body", "rate",
"connections", "newEvery", "timeout"}]}. Every connection has a thread, which keeps it open and sends at its share of
the rate; each `newEvery`th request goes on a connection of its own. Nothing is sent twice: a failure counts.
It begins when every target has answered once: a node's proxy learns of a new Service's first pod up to a second after
everybody else, and refuses connections until then.
Prints a line of counts each second and, when /tmp/stop is there or time is up, the whole sum.
"""

import http.client
import json
import os
import threading
import time
import urllib.parse
from typing import Any

STOP = "/tmp/stop"  # noqa: S108 the pod's own scratch space
FIRST_ANSWER_SECONDS = 10
KEPT_FAILURES = 20  # the sum is one line of a container log, which is cut at 16 KiB


class Target:
    """One address, with the counts of all its threads."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.name = given["name"]
        url = urllib.parse.urlsplit(given["url"])
        self.address, self.port, self.path = url.hostname, url.port or 80, url.path
        self.headers = {"Content-Type": "application/json"}
        if given.get("host"):
            self.headers["Host"] = given["host"]
        self.body = json.dumps(given["body"]).encode()
        self.connections, self.new_every = given["connections"], given["newEvery"]
        self.interval = given["connections"] / given["rate"]
        self.timeout = given.get("timeout", 10)
        self.lock = threading.Lock()
        self.sent = self.failed = self.reconnected = 0
        self.versions: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, Any]] = []
        self.latencies: list[float] = []

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, self.port, timeout=self.timeout)

    def ok(self, version: str, seconds: float) -> None:
        now = time.time()
        with self.lock:
            self.sent += 1
            self.latencies.append(seconds)
            seen = self.versions.setdefault(version, {"count": 0, "first": now, "last": now})
            seen["count"] += 1
            seen["last"] = now

    def bad(self, error: str, kind: str, begun: float, on_connection: int) -> None:
        with self.lock:
            self.sent += 1
            self.failed += 1
            if len(self.failures) < KEPT_FAILURES:
                self.failures.append(
                    {
                        "at": round(begun, 3),
                        "after": round(time.time() - begun, 3),
                        "connection": kind,
                        "requestsBefore": on_connection,
                        "error": error[:160],
                    }
                )

    def counts(self) -> dict[str, Any]:
        with self.lock:
            versions = {name: seen["count"] for name, seen in self.versions.items()}
            return {"sent": self.sent, "failed": self.failed, "versions": versions}

    def sum(self) -> dict[str, Any]:
        with self.lock:
            times = sorted(self.latencies) or [0.0]
            return {
                "sent": self.sent,
                "failed": self.failed,
                "reconnected": self.reconnected,
                "versions": self.versions,
                "failures": self.failures,
                "p50": round(times[len(times) // 2], 4),
                "p99": round(times[len(times) * 99 // 100], 4),
                "max": round(times[-1], 4),
            }


def version_of(response: http.client.HTTPResponse, body: bytes) -> str:
    """The version that answered, by the gateway's header or by the answer itself (V2)."""
    return response.headers.get("solera-version") or json.loads(body).get("model_version", "?")


def request(
    target: Target, connection: http.client.HTTPConnection, extra: dict[str, str]
) -> tuple[str, bool]:
    """Send one; give the version and whether the server closes the connection. Raises OSError, HTTPException."""
    connection.request("POST", target.path, target.body, target.headers | extra)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise OSError(f"status {response.status}: {body[:200].decode(errors='replace')}")
    return version_of(response, body), response.will_close


def wait_for_an_answer(target: Target) -> None:
    """Until the address answers; what is refused before is not counted."""
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while time.monotonic() < deadline:
        connection = target.connect()
        try:
            request(target, connection, {"Connection": "close"})
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()


def run(target: Target, stopped: threading.Event, offset: float) -> None:
    """One kept connection, at its pace."""
    time.sleep(offset)
    kept, on_kept, number, due = None, 0, 0, time.monotonic()
    while not stopped.is_set():
        number += 1
        new = number % target.new_every == 0
        if new:
            connection, kind, before = target.connect(), "new", 0
        else:
            if kept is None:
                kept, on_kept = target.connect(), 0
            connection, kind, before = kept, "kept", on_kept
        begun, start = time.time(), time.monotonic()
        try:
            version, closes = request(target, connection, {"Connection": "close"} if new else {})
            target.ok(version, time.monotonic() - start)
        except (OSError, http.client.HTTPException, ValueError) as error:
            target.bad(f"{type(error).__name__}: {error}", kind, begun, before)
            closes = True
        if new:
            connection.close()
        else:
            on_kept += 1
            if closes:
                connection.close()
                kept = None
                target.reconnected += 1
        due = max(due + target.interval, time.monotonic() - 1.0)
        stopped.wait(max(0.0, due - time.monotonic()))


def main() -> None:
    given = json.loads(os.environ["LOAD"])
    targets = [Target(one) for one in given["targets"]]
    for target in targets:
        wait_for_an_answer(target)
    stopped = threading.Event()
    threads = [
        threading.Thread(target=run, args=(target, stopped, number * target.interval / target.connections))
        for target in targets
        for number in range(target.connections)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + given["seconds"]
    while time.monotonic() < deadline and not os.path.exists(STOP):  # noqa: PTH110 starts faster without pathlib
        time.sleep(1)
        print(json.dumps({target.name: target.counts() for target in targets}), flush=True)  # noqa: T201 - what it found, for the test that runs it
    stopped.set()
    for thread in threads:
        thread.join()
    print(json.dumps({target.name: target.sum() for target in targets}), flush=True)  # noqa: T201 - what it found, for the test that runs it


if __name__ == "__main__":
    main()
