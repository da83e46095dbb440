"""What a serving process is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from solera_server.limits import Limits
from solera_server.recording_options import RecordingOptions
from solera_server.tracing_options import TracingOptions


@dataclass(frozen=True, slots=True)
class Options:
    """
    The options of ``solera-server serve``, checked. Times are seconds.

    ``host`` None means every address. ``workers`` processes answer on the model port; with more than one,
    each has ``threads`` for BLAS and OpenMP. gRPC is answered on ``grpc_port``, unless that is None.
    After answers a process stays awake for ``busy_poll_seconds`` at most, if requests come that soon.
    ``access_share`` of the requests are logged. They are traced as ``tracing`` says, unless that is None.
    With ``tls_files``, a certificate and its key, the model port and gRPC speak TLS only. With ``page`` the
    model port shows its page to browsers; on the management port it is shown under ``page_hosts`` as well.
    """

    model: Path
    name: str
    version: str | None
    digest: str | None
    host: str | None
    port: int
    management_port: int
    drain_delay: float
    drain_timeout: float
    stall_seconds: float
    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    threads: int = 1
    busy_poll_seconds: float = 0.0
    grpc_port: int | None = None
    recording: RecordingOptions = field(default_factory=RecordingOptions)
    tls_files: tuple[Path, Path] | None = None
    access_share: float = 0.0
    page: bool = False
    page_hosts: tuple[str, ...] = ()
    tracing: TracingOptions | None = None

    def version_of(self, digest: str) -> str:
        """Return the version's name: as told, or else the beginning of the artifact's digest."""
        return self.version or digest.replace(":", "-")[:19]
