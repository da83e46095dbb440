"""Every state that an object went through, as a watch shows it."""

import json
import threading
from typing import Self

import httpx
from player import Object


class Recorder:
    """Follows one object while the `with` block runs; `states` are its states in order."""

    def __init__(self, http: httpx.Client, path: str, name: str) -> None:
        self._http = http
        self._path = path
        self._query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": "600"}
        self._response: httpx.Response | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.states: list[Object] = []
        self.gone = False

    def __enter__(self) -> Self:
        self._query["resourceVersion"] = self._http.get(self._path).json()["metadata"]["resourceVersion"]
        self._thread.start()
        assert self._begun.wait(10), "the watch did not begin"
        return self

    def __exit__(self, *_: object) -> None:
        self._query.clear()

    def _follow(self) -> None:
        with self._http.stream("GET", self._path, params=dict(self._query), timeout=None) as response:
            self._begun.set()
            try:
                for line in response.iter_lines():
                    if not self._query:
                        return
                    event = json.loads(line)
                    self.gone = event["type"] == "DELETED"
                    self.states.append(event["object"])
            except httpx.TransportError:
                return
