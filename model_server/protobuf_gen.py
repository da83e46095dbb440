"""
Generates the protobuf modules of the server from its .proto files.

    python model_server/protobuf_gen.py --write    # what `make generate` does
    python model_server/protobuf_gen.py --check    # exits with 1 when a checked-in module is another
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def generate(out: Path) -> dict[Path, bytes]:
    """Return the generated modules with their paths below ``model_server``."""
    sources = sorted(path.relative_to(ROOT) for path in ROOT.glob("solera_server/**/*.proto"))
    arguments = ["protoc", f"--proto_path={ROOT}", f"--python_out={out}", f"--pyi_out={out}"]
    if protoc.main([*arguments, *map(str, sources)]) != 0:
        raise SystemExit("protoc failed")
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.py*"))}


def main(mode: str) -> int:
    """Write the modules, or name those that are not what they should be."""
    with tempfile.TemporaryDirectory() as folder:
        modules = generate(Path(folder))
    stale = [path for path, text in modules.items() if _read(ROOT / path) != text]
    if mode == "--write":
        for path in stale:
            (ROOT / path).write_bytes(modules[path])
        return 0
    for path in stale:
        sys.stdout.write(f"model_server/{path} is not what `make generate` writes\n")
    return 1 if stale else 0


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else "--check"))
