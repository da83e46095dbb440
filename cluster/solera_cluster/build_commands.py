"""Commands around compiling: build, lock, versions."""

import argparse
from dataclasses import asdict

from solera_cluster import build, gomod, parts, paths, progress, toolchain, versions
from solera_cluster.command import Command


def _add_build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"{', '.join(parts.GROUPS)} or a single binary; all by default",
    )
    parser.add_argument(
        "--prune", action="store_true", help="afterwards remove binaries of other versions that nobody runs"
    )


def _build(arguments: argparse.Namespace) -> int:
    directory = build.ensure(arguments.parts)
    if arguments.prune:
        for removed in build.prune():
            progress.say(f"  removed {removed}")
    print(directory)
    return 0


def _lock(_arguments: argparse.Namespace) -> int:
    gomod.lock()
    print(paths.GO_MODULE / "go.mod")
    return 0


def _versions(_arguments: argparse.Namespace) -> int:
    for name, value in asdict(versions.load()).items():
        print(f"{name.replace('_', '-')} {value}")
    print(f"go {toolchain.version()}")
    return 0


COMMANDS = (
    Command("build", "compile the binaries that are missing", _build, _add_build_arguments),
    Command("lock", "write gomod/go.mod and go.sum for the versions in versions.toml", _lock),
    Command("versions", "print every version in use", _versions),
)
