"""
Fuzz one target, guided by coverage: ``python tests/fuzz/run.py TARGET MODEL_DIRECTORY [libFuzzer's options]``.

Runs in the environment `fuzz` (requirements/fuzz.txt), which has atheris; `make fuzz` calls it. What is found is
written to build/fuzz/found; a finding that has been mended belongs into the corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent

with atheris.instrument_imports(include=["solera_server", "solera_core"]):
    roots = (HERE.parents[1] / "model_server", HERE.parents[1] / "core", HERE.parent / "unit" / "server")
    sys.path[:0] = [str(HERE), *map(str, roots)]
    import targets


def main() -> None:
    name, directory, *options = sys.argv[1:]
    target = targets.Targets(Path(directory)).by_name[name]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
