"""What a module offers on the command line: a tuple COMMANDS of these, listed in `cli.py`."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


@dataclass(frozen=True)
class Command:
    """A subcommand; `run` gives the exit code and may raise ClusterError, whose text the user sees."""

    name: str
    summary: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
