"""What must not be in the repository: run by `make lint`, prints each finding, exits 1 if there is any.

- `operator/__init__.py`: it would hide Python's own module of that name.
- Hosts of package and image registries: whoever builds uses the clients and mirrors of their own.
- Absolute paths of the machine that somebody developed on, and files that are too large to be source.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1_000_000

# Written in two parts, so that this file passes its own check.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("deb", "debian", "org"),
        ("registry", "npmjs", "org"),
        ("static", "crates", "io"),
        ("docker", "io"),
        ("gcr", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("registry", "k8s", "io"),
    )
]
REGISTRY = re.compile("|".join(rf"(?<![\w.-]){re.escape(host)}(?![\w-])" for host in REGISTRIES))
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|home/\w+)/[\w.-]+/[\w.-]+")


def findings(path: Path) -> list[str]:
    """Everything that is wrong with one tracked file, as lines for a person."""
    name = str(path.relative_to(ROOT))
    if path.is_symlink() or not path.is_file():
        return []
    if name == "operator/__init__.py":
        return [f"{name}: delete it; operator/ is a source root, not a package"]
    if path.stat().st_size > LARGEST:
        return [f"{name}: {path.stat().st_size} bytes; files above {LARGEST} do not belong here"]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    out = []
    for number, line in enumerate(lines, 1):
        if match := REGISTRY.search(line):
            out.append(f"{name}:{number}: names the registry host {match[0]}; name the package only")
        if match := MACHINE_PATH.search(line):
            out.append(f"{name}:{number}: has a path of somebody's machine: {match[0]}")
    return out


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    found = [line for path in paths for line in findings(path)]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
