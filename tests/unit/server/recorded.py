"""Artifacts with a baseline, keys of receipts, and a server on loopback that records."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from server_artifacts import Trained, mixed_rows, write_json

from solera_core import artifact
from solera_core.baseline import LABEL, SCORE, Baseline, Histogram, score
from solera_core.histogram import CategoricalBins, categorical_bins, count, numeric_bins
from solera_core.schema import STRING, decode_rows, frame
from solera_server.health import Health, Phase
from solera_server.http_server import HttpServer
from solera_server.metrics import Metrics
from solera_server.options import Options
from solera_server.recording import Recorder, Recording
from solera_server.scheduler import Scheduler
from solera_server.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from solera_server.load import LoadedModel
    from solera_server.recording_options import RecordingOptions

KEY = b"0123456789abcdef" * 2


def write_keys(directory: Path, current: str = "k1", **keys: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    for name, key in (keys or {"k1": KEY}).items():
        (directory / name).write_bytes(key)
    (directory / "current").write_text(current)
    return directory


def with_baseline(trained: Trained, directory: Path, rows: list[dict[str, Any]] | None = None) -> Trained:
    """Return a copy of an artifact with a baseline of these rows."""
    shutil.copytree(trained.directory, directory)
    columns = decode_rows(trained.schema, rows or mixed_rows())
    table = frame(columns)

    def histogram(values: Any, bins: Any) -> Histogram:
        return Histogram(bins, tuple(count(bins, values).tolist()))

    features = {}
    for feature in trained.schema.features:
        column = columns[feature.name]
        text = feature.type == STRING
        features[feature.name] = histogram(
            column, categorical_bins(column.tolist()) if text else numeric_bins(column)
        )
    labels = np.asarray(trained.model.predict(table))
    classes = trained.schema.target.classes
    predictions = {
        LABEL: histogram(labels, numeric_bins(labels) if classes is None else CategoricalBins(classes))
    }
    if classes is not None:
        scores = score(trained.model.predict_proba(table))
        predictions[SCORE] = histogram(scores, numeric_bins(scores))
    size = len(labels)
    baseline = Baseline(size, size, features, predictions, None if classes else 4.0)
    write_json(directory, artifact.BASELINE, baseline.to_json())
    (directory / artifact.MANIFEST).unlink()
    return dataclasses.replace(trained, directory=directory, digest=artifact.write_manifest(directory).digest)


@dataclasses.dataclass
class RecordedServer:
    url: str
    recording: Recording
    recorder: Recorder
    metrics: Metrics
    closed: bool = False

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.recorder.close()


@asynccontextmanager
async def recording_server(
    trained: Trained, loaded: LoadedModel, options: RecordingOptions, *, turns: bool = True, **more: Any
) -> AsyncIterator[RecordedServer]:
    """Serve on the running loop and record, as a process does; with or without plain turns."""
    name = trained.directory.name
    all_options = Options(
        model=trained.directory,
        name=name,
        version=f"{name}-v1",
        digest=None,
        host="127.0.0.1",
        port=0,
        management_port=0,
        drain_delay=0,
        drain_timeout=1,
        stall_seconds=60,
        recording=options,
    )
    recording = Recording(all_options, loaded, **more)
    recorder = Recorder(recording)
    scheduler = Scheduler(asyncio.get_running_loop(), all_options.limits)
    scheduler.start()
    health = Health(scheduler, stall_seconds=60.0)
    health.phase = Phase.SERVING
    metrics = Metrics(name, f"{name}-v1")
    metrics.sources.append(recording.families)
    serving = Serving(
        name,
        f"{name}-v1",
        loaded,
        scheduler,
        health,
        metrics,
        all_options.limits,
        recorder=recorder,
        extra_routes=recorder.routes(),
    )
    plain = serving.plain_turn(asyncio.get_running_loop()) if turns else None
    server = HttpServer(serving.router(), all_options.limits, metrics, recorder, plain=plain)
    port = await server.listen("127.0.0.1", 0)
    served = RecordedServer(f"http://127.0.0.1:{port}", recording, recorder, metrics)
    try:
        yield served
    finally:
        server.stop_listening()
        await server.finish(asyncio.get_running_loop().time() + 5)
        scheduler.stop()
        await served.close()
