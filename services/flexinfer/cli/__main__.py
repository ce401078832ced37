"""The entry point: loads the module of one command and turns its errors into one line on standard error.

Also `kubectl flexinfer ...`: kubectl runs any `kubectl-flexinfer` on PATH.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from flexinfer.cli.errors import CommandError
from flexinfer.local.instance import InstanceError
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.settings import SettingsError

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "up": "start everything on this machine and keep it running",
        "env": "print the variables that kubectl, OpenAI clients and NATS clients need, for eval",
        "services": "list the processes of `flexinfer up` and their health",
        "down": "stop everything; Models and weights are kept for the next `up`",
        "gpus": "show the GPUs, who holds their memory, and why one is missing",
        "chat": "send chat completions to a Model",
        "why": "show why a Model is in its current state, and what to do next",
        "verify": "read the weights of a Model again and compare them with what was downloaded",
        "plan": "show where the Models of a file would go, who would have to leave, and why not elsewhere",
        "simulate": "replay requests on a card that Models share, in virtual time, and print who waited how long",
        "tap": "print the events on NATS, one readable line each",
        "run": "run components in this process, in the foreground",
        "demo": "apply a Model, get an answer, scale to zero, start it again",
    }
)
_INTERRUPTED = 130


def boot() -> None:
    """Run the command line of this process."""
    sys.exit(main(sys.argv[1:], program=program_name(sys.argv[0])))


def program_name(path: str) -> str:
    """Return the command as the user typed it."""
    return "kubectl flexinfer" if Path(path).name == "kubectl-flexinfer" else "flexinfer"


def main(words: Sequence[str], *, program: str = "flexinfer") -> int:
    """Run one command; returns the exit status."""
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = _parser(program, chosen)
    arguments = parser.parse_args(words)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        return int(arguments.run(arguments))
    except (CommandError, InstanceError, ApiError, SettingsError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(program: str, chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program, description="FlexInfer serves AI models from one Model resource each."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            module = importlib.import_module(f"flexinfer.cli.{name}")
            module.arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    boot()
