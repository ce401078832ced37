"""Which FlexInfer a command is for: an instance on this machine, or the one of a cluster. What is opened there is `reach`'s."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from flexinfer.cli.errors import CommandError
from flexinfer.local import instance
from flexinfer.local.instance import Instance, InstanceError
from flexinfer.local.lock import lock_holder
from flexinfer.local.ports import HOST


def state_argument(parser: argparse.ArgumentParser) -> None:
    """Add --state."""
    parser.add_argument(
        "--state", metavar="DIR", help="state folder (else $FLEXINFER_STATE, else the user's state folder)"
    )


def context_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --context, which may come before the command or after it."""
    parser.add_argument(
        "--context",
        metavar="NAME",
        default=default,
        help="use the FlexInfer of a cluster, by this context of the kubeconfig, in place of the one on this machine",
    )


def target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where a command finds its instance or cluster: --context, --kubeconfig and --state."""
    context_argument(parser, argparse.SUPPRESS)
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="else --state's, else $KUBECONFIG, else the instance's, else ~/.kube/config; never the instance's with --context",
    )
    state_argument(parser)
    parser.set_defaults(knows_clusters=True)


def check(command: str, arguments: argparse.Namespace) -> None:
    """Raise CommandError if the command line names a cluster for a command of this machine, or two targets at once."""
    if not context_of(arguments):
        return
    if not getattr(arguments, "knows_clusters", False):
        raise CommandError(f"`flexinfer {command}` is for this machine alone; leave --context out")
    if arguments.state:
        raise CommandError("--context names a cluster and --state an instance; leave one of them out")


def context_of(arguments: argparse.Namespace) -> str:
    """Return the context that a command line names; empty: none."""
    return str(getattr(arguments, "context", ""))


def kubeconfig(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> str:
    """Return the kubeconfig to use, one file or several as in $KUBECONFIG. Raises InstanceError if --state names no instance."""
    variables = os.environ if environment is None else environment
    if arguments.kubeconfig:
        return str(arguments.kubeconfig)
    if not arguments.state and variables.get("KUBECONFIG"):
        return variables["KUBECONFIG"]
    own = Path("~/.kube/config").expanduser()
    if context_of(arguments):
        return str(own)
    try:
        return str(instance_of(arguments, variables).kubeconfig)
    except InstanceError as error:
        if arguments.state or variables.get(instance.STATE_VARIABLE):
            raise
        if not own.exists():
            raise InstanceError(
                f"{error}; for a cluster, there is no {own} and KUBECONFIG is not set"
            ) from error
        return str(own)


def stopped_instance(
    arguments: argparse.Namespace, environment: Mapping[str, str], address: str = ""
) -> Path | None:
    """Return the state folder of the instance that a command asks, if nothing keeps it running; None for all else.

    `address` is what did not answer; empty: the API server. Raises InstanceError.
    """
    if context_of(arguments) or not getattr(arguments, "knows_clusters", False):
        return None
    state = Path(kubeconfig(arguments, environment)).parent
    if not (state / "instance.json").exists() or lock_holder(state) is not None:
        return None
    current = instance.load(state)
    own = {f"{HOST}:{port}" for port in (current.ports.proxy, current.ports.nats)}
    return state if not address or address in own else None


def state_of(arguments: argparse.Namespace) -> Path:
    """Return the state folder of a command."""
    return instance.state_folder(arguments.state, os.environ)


def instance_of(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Instance:
    """Return the instance of a command. Raises InstanceError if there is none."""
    variables = os.environ if environment is None else environment
    return instance.load(instance.state_folder(arguments.state, variables))


def variable(name: str, arguments: argparse.Namespace) -> str:
    """Return one of the exports: with --state that of the instance, else of the environment, else of the instance.

    Raises CommandError if none has it.
    """
    value = os.environ.get(name)
    if value and not arguments.state:
        return value
    try:
        return instance_of(arguments).exports()[name]
    except InstanceError as error:
        raise CommandError(f"{name} is not set, and {error}") from error
