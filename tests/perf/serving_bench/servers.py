"""The servers: how each is started on one CPU, what it is asked, and where its answer has the labels.

docs/performance.md says why each has these settings. Every server gets one CPU, so one worker each; threads of
BLAS and OpenMP are one; access logs are off.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from own_environment import environment
from serving_bench.cases import Body, rows_body, v1_body, v2_body, v2_plain_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving_bench.models import Model

PEERS = Path(__file__).parent / "peers"
FIXED_SERVER = Path(__file__).parents[1] / "fixed_server.py"
BARE_SERVER = Path(__file__).parents[1] / "bare_server.c"
V2_PATH = "/v2/models/model/infer"
V1_PATH = "/v1/models/model:predict"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Start:
    """What to start: ``folder`` is the working directory, a fresh one of the server's own."""

    model: Model
    ports: tuple[int, int, int]
    folder: Path


@dataclass(frozen=True)
class Server:
    """
    A server of the comparison.

    ``command`` writes what configuration the server reads and returns the command line; ``environ`` adds to
    its environment; ``labels`` takes the predictions out of a reply. What is not ``checked`` need not answer
    as scikit-learn does.
    """

    name: str
    packages: tuple[str, ...]
    python: Callable[[], Path]
    command: Callable[[Path, Start], list[str]]
    path: str
    body: Body
    labels: Callable[[Any], list[Any]]
    environ: Mapping[str, str] = field(default_factory=dict)
    peer: bool = True
    checked: bool = True

    def full_environ(self, start: Start) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        if not self.peer and "BENCH_PYTHONPATH" in os.environ:
            # So that the server of another checkout can be measured by this one.
            inherited["PYTHONPATH"] = os.environ["BENCH_PYTHONPATH"]
        threads = dict.fromkeys(_THREADS, "1") if self.peer else {"SOLERA_CPUS": "1"}
        benched = {
            "BENCH_MODEL": str(start.model.joblib),
            "BENCH_FRAME": "1" if start.model.framed else "0",
            "BENCH_PORT": str(start.ports[0]),
        }
        return inherited | threads | benched | dict(self.environ)

    def version(self) -> str:
        """Versions of its packages, as installed."""
        code = (
            "import sys; from importlib.metadata import version; print(' '.join(map(version, sys.argv[1:])))"
        )
        done = subprocess.run(
            [self.python(), "-c", code, *self.packages], capture_output=True, text=True, check=True
        )
        return done.stdout.split()[0]


def _ours() -> Path:
    return Path(sys.executable)


def _peer(name: str) -> Callable[[], Path]:
    return lambda: environment(f"peers/{name}")


def _solera(python: Path, start: Start) -> list[str]:
    options = ["--name", "model", "--port", str(start.ports[0]), "--management-port", str(start.ports[1])]
    return [str(python), "-m", "solera_server", "serve", "--model", str(start.model.artifact), *options]


def _fixed(python: Path, start: Start) -> list[str]:
    return [str(python), str(FIXED_SERVER), "--name", "model", "--port", str(start.ports[0])]


def _bare(_python: Path, start: Start) -> list[str]:
    program = start.folder / "bare_server"
    subprocess.run(["cc", "-O2", "-o", program, BARE_SERVER], check=True)
    return [str(program), str(start.ports[0])]


def _kserve(python: Path, start: Start) -> list[str]:
    formatter = {"plain": {"format": "%(levelname)s %(name)s %(message)s"}}
    handler = {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}}
    quiet = {"level": "WARNING", "handlers": ["stderr"], "propagate": False}
    names = ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "uvicorn.error")
    logging = {"version": 1, "disable_existing_loggers": False, "formatters": formatter, "handlers": handler}
    config = start.folder / "logging.json"
    config.write_text(json.dumps(logging | {"loggers": dict.fromkeys(names, quiet)}), encoding="utf-8")
    options = [f"--http_port={start.ports[0]}", "--model_name=model", "--enable_grpc=false"]
    options += ["--enable_latency_logging=false", f"--log_config_file={config}"]
    return [str(python), str(PEERS / "kserve_server.py"), *options]


def _mlserver(python: Path, start: Start) -> list[str]:
    http, grpc, metrics = start.ports
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "gzip_enabled": False,
    }
    parameters = {"uri": str(start.model.joblib), "version": "v1"}
    model_settings: dict[str, Any] = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": parameters,
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    (start.folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (start.folder / "model-settings.json").write_text(json.dumps(model_settings), encoding="utf-8")
    return [str(python.with_name("mlserver")), "start", "."]


def _bentoml(python: Path, start: Start) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(start.ports[0]), "--working-dir", str(PEERS)]
    return [str(python.with_name("bentoml")), "serve", "bentoml_service:Predictor", "--quiet", *where]


def _litserve(python: Path, _start: Start) -> list[str]:
    return [str(python), str(PEERS / "litserve_server.py")]


def _uvicorn(app: str) -> Callable[[Path, Start], list[str]]:
    def command(python: Path, start: Start) -> list[str]:
        options = ["--app-dir", str(PEERS), "--host", "127.0.0.1", "--port", str(start.ports[0])]
        options += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return [str(python), "-m", "uvicorn", app, *options]

    return command


def _first_output(reply: Any) -> list[Any]:
    return next(output["data"] for output in reply["outputs"] if output["name"] in ("predict", "output-0"))


def _predictions(reply: Any) -> list[Any]:
    predictions: list[Any] = reply["predictions"]
    return predictions


def _itself(reply: Any) -> list[Any]:
    labels: list[Any] = reply
    return labels


SERVERS = {
    server.name: server
    for server in (
        Server("solera", ("solera",), _ours, _solera, V2_PATH, v2_body, _first_output, peer=False),
        Server(
            "solera-fixed",
            ("solera",),
            _ours,
            _fixed,
            V2_PATH,
            v2_body,
            _first_output,
            peer=False,
            checked=False,
        ),
        Server(
            "bare",
            ("solera",),
            _ours,
            _bare,
            V2_PATH,
            v2_body,
            _first_output,
            peer=False,
            checked=False,
        ),
        Server("kserve", ("kserve",), _peer("kserve"), _kserve, V2_PATH, v2_plain_body, _first_output),
        Server("mlserver", ("mlserver",), _peer("mlserver"), _mlserver, V2_PATH, v2_body, _first_output),
        Server(
            "bentoml",
            ("bentoml",),
            _peer("bentoml"),
            _bentoml,
            "/predict",
            rows_body,
            _itself,
            environ={"BENTOML_DO_NOT_TRACK": "True", "BENCH_BATCH": "64"},
        ),
        Server(
            "litserve",
            ("litserve",),
            _peer("litserve"),
            _litserve,
            "/predict",
            rows_body,
            _predictions,
            environ={"BENCH_BATCH": "64", "BENCH_FAST_QUEUE": "0"},
        ),
        Server(
            "fastapi",
            ("fastapi",),
            _peer("fastapi"),
            _uvicorn("fastapi_app:app"),
            "/predict",
            rows_body,
            _predictions,
        ),
        Server(
            "floor",
            ("uvicorn",),
            _peer("floor"),
            _uvicorn("floor_app:app"),
            "/predict",
            rows_body,
            _predictions,
        ),
    )
}
V1 = dict.fromkeys(("solera", "solera-fixed", "bare", "kserve"), (V1_PATH, v1_body))
"""The servers that have the V1 protocol too."""
