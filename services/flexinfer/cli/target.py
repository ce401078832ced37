"""Which FlexInfer a command talks to: what the environment names, else the instance of the state folder."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from flexinfer.cli.errors import CommandError
from flexinfer.local import instance
from flexinfer.local.instance import Instance, InstanceError


def state_argument(parser: argparse.ArgumentParser) -> None:
    """Add --state."""
    parser.add_argument(
        "--state", metavar="DIR", help="state folder (else $FLEXINFER_STATE, else the user's state folder)"
    )


def state_of(arguments: argparse.Namespace) -> Path:
    """Return the state folder of a command."""
    return instance.state_folder(arguments.state, os.environ)


def instance_of(arguments: argparse.Namespace) -> Instance:
    """Return the instance of a command. Raises InstanceError if there is none."""
    return instance.load(state_of(arguments))


def variable(name: str, arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """Return one of the exports: with --state that of the instance, else of the environment, else of the instance.

    Raises CommandError if none has it.
    """
    value = (os.environ if environment is None else environment).get(name)
    if value and not arguments.state:
        return value
    try:
        return instance_of(arguments).exports()[name]
    except InstanceError as error:
        raise CommandError(f"{name} is not set, and {error}") from error
