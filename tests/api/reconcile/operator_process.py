"""The operator as a process of its own, as the kubelet would run it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx
import orjson
import yaml

SETTINGS: dict[str, Any] = {
    "artifactStore": {
        "uri": "s3://artifacts",
        "endpointUrl": "http://store.example.com:7070",
        "region": "us-east-1",
        "secretName": "store",
    },
    "runtimes": [
        {
            "name": "sklearn-1.9",
            "sklearnVersion": "1.9.1",
            "trainerImage": "localhost/solera-trainer:test",
            "serverImage": "localhost/solera-server:test",
        }
    ],
    "jobTTLSeconds": 600,
    "logLevel": "Info",
}
READ_VERBS = frozenset({"get", "list", "watch"})
_SAMPLE = re.compile(
    r'solera_api_requests_total\{code="(?P<code>\d+)",resource="(?P<resource>[^"]*)",verb="(?P<verb>[^"]*)"\} (?P<count>\S+)'
)


class OperatorProcess:
    """One operator. What it logs goes to a file, whatever happens to the process."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path, name: str = "operator") -> None:
        """`namespace` is watched, and holds the Lease."""
        self.name = name
        self.namespace = namespace
        self.log_file = folder / f"{name}.log"
        self._kubeconfig = kubeconfig
        self._settings = folder / "settings.yaml"
        self._settings.write_text(yaml.safe_dump({**SETTINGS, "watchNamespaces": [namespace]}))
        self._process: subprocess.Popen[bytes] | None = None
        self._base = ""
        self.restarts = 0

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, gracefully if it can."""
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the process; with `wait`, return when it leads or stands by."""
        assert not self.running
        command = [
            *(sys.executable, "-m", "solera_operator", "--settings", str(self._settings)),
            *("--kubeconfig", str(self._kubeconfig), "--namespace", self.namespace),
            *("--host", "127.0.0.1", "--port", "0", "--log-format", "json"),
        ]
        self._base = ""
        self._offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "POD_NAME": self.name}
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = 40.0) -> None:
        """Wait until /readyz says yes."""
        end = time.monotonic() + seconds
        while not self._is_ready():
            assert self.running, f"the operator ended:\n{self.log()}"
            assert time.monotonic() < end, f"the operator is not ready after {seconds:g} s:\n{self.log()}"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        if not self._base:
            started = [e for e in self.entries(self._offset) if e.get("event") == "started"]
            if not started:
                return False
            self._base = f"http://127.0.0.1:{started[-1]['probes']}"
        return self.answers("/readyz")

    def answers(self, path: str) -> bool:
        """Whether a probe answers 200."""
        try:
            return httpx.get(self._base + path, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM as the kubelet sends it; SIGKILL after 20 s."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the operator did not stop within 20 s of SIGTERM:\n{self.log()}") from None

    def revive(self) -> None:
        """Start it again if it has ended by itself (a lost Lease), as the kubelet does."""
        if not self.running:
            self.restarts += 1
            self.start(wait=False)

    def leads(self) -> bool:
        """Whether it holds the Lease."""
        return "solera_leader 1.0" in self.metrics()

    def metrics(self) -> str:
        """Its metrics, as text."""
        return httpx.get(self._base + "/metrics", timeout=5).text

    def writes(self, *, events: bool = False) -> dict[str, float]:
        """How often it wrote what by its own count: without the Lease and, unless asked for, Events."""
        apart = ("leases",) if events else ("leases", "events")
        found = (match.groupdict() for match in _SAMPLE.finditer(self.metrics()))
        return {
            f"{one['verb']} {one['resource']} {one['code']}": float(one["count"])
            for one in found
            if one["verb"] not in READ_VERBS and not one["resource"].startswith(apart)
        }

    def entries(self, offset: int = 0) -> list[dict[str, Any]]:
        """Its log, from a place in the file on."""
        with self.log_file.open("rb") as log:
            log.seek(offset)
            lines = log.read().splitlines()
        found = []
        for line in lines:
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                found.append({"event": line.decode(errors="replace"), "level": "raw"})
        return found

    def log(self, about: str = "", lines: int = 60) -> str:
        """The end of its log; with `about`, what names it."""
        kept = [e for e in self.entries() if about in orjson.dumps(e).decode()]
        return "\n".join(_line(entry) for entry in kept[-lines:])

    def troubles(self) -> list[str]:
        """What it logged as an error: nothing in these tests should."""
        return [_line(e) for e in self.entries() if e.get("level") in {"error", "critical", "raw"}]


def _line(entry: dict[str, Any]) -> str:
    rest = {k: v for k, v in entry.items() if k not in {"timestamp", "event", "level", "logger"}}
    return f"{entry.get('timestamp', '')[11:23]} {entry.get('level', '?'):7} {entry.get('event')} {rest}"
