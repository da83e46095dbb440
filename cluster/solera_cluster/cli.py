"""The command line: collects the modules' commands, runs one and shows its error."""

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence

from solera_cluster.command import Command
from solera_cluster.errors import ClusterError

# Each of these modules has a tuple COMMANDS.
MODULES = ("cluster_commands", "build_commands", "images", "platform", "deploy", "prediction", "demo")


def commands() -> list[Command]:
    """All commands, in the order of MODULES."""
    found: list[Command] = []
    for name in MODULES:
        if importlib.util.find_spec(f"solera_cluster.{name}"):
            found += importlib.import_module(f"solera_cluster.{name}").COMMANDS
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="solera_cluster",
        description="A real Kubernetes cluster on this machine, built from package registries.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands():
        subparser = subparsers.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return code
