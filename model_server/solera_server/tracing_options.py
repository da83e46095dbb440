"""
What the environment says about traces, as OpenTelemetry names its variables.

A variable that cannot be followed turns tracing off, with a line in the log: they are often set for a whole
cluster, and a model must not stop being served for one of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_SAMPLERS = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}
_PARENT_BASED = "parentbased_"
_DEFAULT_SAMPLER = "parentbased_always_on"
_TRACE_IDS = 1 << 64
_PACKAGE = "opentelemetry.exporter.otlp.proto.http"


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """
    How requests are traced.

    ``share`` of the traces (0 to 1) are kept where the caller has not decided; where it has, ``parent_based``
    says whether its word counts. At most ``queue`` spans wait. They are sent ``batch`` at a time, as soon as
    there are so many, or after ``delay_seconds``.
    """

    share: float = 1.0
    parent_based: bool = True
    queue: int = 2048
    batch: int = 512
    delay_seconds: float = 5.0

    def keeps(self, trace_id: int, parent_sampled: bool | None) -> bool:
        """Return whether a trace is kept; ``parent_sampled`` is None where there is no parent."""
        if self.parent_based and parent_sampled is not None:
            return parent_sampled
        # By the lower half of the id, as OpenTelemetry does it: all services with one share keep the same.
        return trace_id % _TRACE_IDS < self.share * _TRACE_IDS


def tracing_options(environ: Mapping[str, str]) -> TracingOptions | None:
    """Return how requests are to be traced; None, the default, if not."""
    if _word(environ, "OTEL_SDK_DISABLED") == "true":
        return None
    exporters = _word(environ, "OTEL_TRACES_EXPORTER")
    if exporters == "none" or not (exporters or any(environ.get(name) for name in _ENDPOINTS)):
        return None
    if exporters not in ("", "otlp"):
        return _refusal(f"OTEL_TRACES_EXPORTER is {exporters}; this server has otlp and none.")
    for name in _PROTOCOLS:
        protocol = _word(environ, name)
        if protocol and protocol != _PROTOCOL:
            return _refusal(
                f"{name} is {protocol}; set it to {_PROTOCOL}, and the endpoint to that port (4318)."
            )
        if protocol:
            break
    if not _installed():
        return _refusal(
            'The packages of OpenTelemetry are not installed; install Solera with its extra "otel".'
        )
    share, parent_based = _sampler(environ)
    queue = _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    batch = min(_number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), queue)
    delay = _number(environ, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
    return TracingOptions(share, parent_based, queue, batch, delay)


def _sampler(environ: Mapping[str, str]) -> tuple[float, bool]:
    name = _word(environ, "OTEL_TRACES_SAMPLER") or _DEFAULT_SAMPLER
    root = name.removeprefix(_PARENT_BASED)
    if root not in _SAMPLERS:
        _warn(f"OTEL_TRACES_SAMPLER {name} is not known", _DEFAULT_SAMPLER)
        return 1.0, True
    share = _SAMPLERS[root]
    if share is None:
        given = environ.get("OTEL_TRACES_SAMPLER_ARG", "")
        try:
            share = float(given)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            _warn(f"OTEL_TRACES_SAMPLER_ARG {given!r} is not from 0 to 1", 1.0)
            share = 1.0
    return share, root != name


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(name, "").strip()
    if not given:
        return default
    if given.isascii() and given.isdigit() and 0 < int(given) < 10**6:
        return int(given)
    _warn(f"{name} {given!r} is not from 1 to 999999", default)
    return default


def _word(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip().lower()


def _installed() -> bool:
    try:
        return find_spec(_PACKAGE) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def _warn(problem: str, used: object) -> None:
    log.warning("tracing: a variable is passed over", extra={"problem": problem, "used": used})


def _refusal(reason: str) -> TracingOptions | None:
    log.warning("requests are not traced", extra={"reason": reason})
    return None
