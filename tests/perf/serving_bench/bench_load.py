"""
Time and memory from an artifact to a model that answers, compiled and by scikit-learn: ``make bench-load``.

Each loading is a process of its own. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CASES = {
    "forest": "forest of 100 trees",
    "large-forest": "forest of 1,000 trees, 20,000 rows of training",
    "many-trees": "gradient boosting, 2,000 trees",
}
WAYS = {
    "compiled": "compiled: what the server does",
    "skops": "the same file by skops and scikit-learn",
    "joblib": "a pickle of the model by joblib",
}
ROUNDS = 3
RESULT = Path("build/bench-load.json")


def loaded(way: str, directory: Path) -> None:
    """Load the model in ``directory`` one way, as a process that does nothing else; print what it took."""
    started = time.perf_counter()
    model: Any
    if way == "compiled":
        from solera_server.load import load

        imported = time.perf_counter()
        model = load(directory / "artifact", None)
        if model.predictor.kind != "compiled":
            raise SystemExit(f"it is not compiled: {model.predictor.reason}")
    elif way == "skops":
        import sklearn.ensemble

        from solera_core.model_file import load_model

        imported = time.perf_counter()
        model = load_model(directory / "artifact" / "model.skops")
    else:
        import joblib
        import sklearn.ensemble  # noqa: F401 - its time is a part of what is measured

        imported = time.perf_counter()
        model = joblib.load(directory / "model.joblib")
    ready = time.perf_counter()
    print(  # noqa: T201 - to the process that started this one
        json.dumps(
            {
                "import_s": imported - started,
                "load_s": ready - imported,
                "rss_mb": _status_mb("VmRSS"),
                "peak_mb": _status_mb("VmHWM"),
                "model": type(model).__name__,
            }
        )
    )


def _status_mb(name: str) -> float:
    """Return one of the kernel's figures; not getrusage's, which begins with those of the parent."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1000


def measure(case: str, way: str, build: Path) -> dict[str, Any]:
    """Return a record: medians over the rounds."""
    directory = build.resolve() / "models" / case
    taken = []
    for _ in range(ROUNDS):
        finished = subprocess.run(
            [sys.executable, "-m", "serving_bench.bench_load", "--one", way, "--directory", str(directory)],
            check=True,
            capture_output=True,
            text=True,
        )
        taken.append(json.loads(finished.stdout))
    names = ("import_s", "load_s", "rss_mb", "peak_mb")
    medians = {name: round(statistics.median(one[name] for one in taken), 3) for name in names}
    size = sum(file.stat().st_size for file in (directory / "artifact").iterdir()) / 1e6
    return {"case": case, "way": way, "artifact_mb": round(size, 1), **medians}


def main() -> None:
    """Measure all, or do one loading."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", choices=WAYS)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    if options.one:
        loaded(options.one, options.directory)
        return
    from serving_bench.machine import BUILD
    from serving_bench.models import model

    records = []
    sys.stdout.write(
        "| model | way | import s | load s | memory MB | at most MB |\n|---|---|---:|---:|---:|---:|\n"
    )
    for case, title in CASES.items():
        model(case, BUILD)
        for way, words in WAYS.items():
            one = measure(case, way, BUILD)
            records.append(one)
            figures = (
                f"{one['import_s']:.2f} | {one['load_s']:.2f} | {one['rss_mb']:.0f} | {one['peak_mb']:.0f}"
            )
            sys.stdout.write(f"| {title}, {one['artifact_mb']:.0f} MB | {words} | {figures} |\n")
            sys.stdout.flush()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
