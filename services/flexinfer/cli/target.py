"""Target: which FlexInfer a command talks to: what the environment names, else the instance of the state folder."""

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
    """Return the state folder that a command is about."""
    return instance.state_folder(arguments.state, os.environ)


def instance_of(arguments: argparse.Namespace) -> Instance:
    """Return the instance that a command is about; InstanceError when there is none."""
    return instance.load(state_of(arguments))


def variable(name: str, arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """Return one of the exports: of the instance when --state names one, else of the environment, else of the instance."""
    given = (os.environ if environment is None else environment).get(name)
    if given and not arguments.state:
        return given
    try:
        return instance_of(arguments).exports()[name]
    except InstanceError as error:
        raise CommandError(f"{name} is not set, and there is {error}") from error
