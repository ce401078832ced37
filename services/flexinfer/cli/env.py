"""`flexinfer env`: what a shell needs, for `eval "$(flexinfer env)"`."""

import argparse
import shlex
from collections.abc import Mapping

from flexinfer.cli.target import instance_of, state_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take --state."""
    state_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Print the exports; they hold credentials."""
    print(shell(instance_of(given).exports()))
    return 0


def shell(exports: Mapping[str, str]) -> str:
    """Return exports as one line that any POSIX shell evaluates."""
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
