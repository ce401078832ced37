"""`flexinfer env`: the variables that kubectl, OpenAI clients and NATS clients need, for `eval "$(flexinfer env)"`."""

import argparse
import shlex
from collections.abc import Mapping

from flexinfer.cli.target import instance_of, state_argument


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --state."""
    state_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Print the exports; they contain credentials."""
    print(shell(instance_of(options).exports()))
    return 0


def shell(exports: Mapping[str, str]) -> str:
    """Return exports as one line that any POSIX shell evaluates."""
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
