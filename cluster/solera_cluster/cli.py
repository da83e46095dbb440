"""The command line: collects the modules' commands, runs one and shows its error."""

import argparse
import sys
from collections.abc import Sequence

from solera_cluster import build_commands, cluster_commands, demo, deploy, images, platform, prediction
from solera_cluster.errors import ClusterError

COMMANDS = (
    *cluster_commands.COMMANDS,
    *build_commands.COMMANDS,
    *images.COMMANDS,
    *platform.COMMANDS,
    *deploy.COMMANDS,
    *prediction.COMMANDS,
    *demo.COMMANDS,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="solera_cluster",
        description="A real Kubernetes cluster on this machine, built from package registries.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
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
