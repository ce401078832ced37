"""The entry point: loads the module of one command and turns its errors into one line on standard error.

Also `kubectl flexinfer ...`: kubectl runs any `kubectl-flexinfer` on PATH.
"""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from flexinfer.api.nearest import nearest
from flexinfer.cli import terminal
from flexinfer.cli.commands import COMMANDS, parser_of
from flexinfer.cli.errors import CommandError, UnreachableError
from flexinfer.cli.target import check, context_argument, stopped_instance
from flexinfer.local.instance import InstanceError
from flexinfer.runtime.kubernetes.api import ApiError, UnavailableError
from flexinfer.runtime.settings import SettingsError

_INTERRUPTED = 130


def boot() -> None:
    """Run the command line of this process."""
    terminal.prepare((sys.stdout, sys.stderr), os.environ)
    sys.exit(main(sys.argv[1:], program=program_name(sys.argv[0])))


def program_name(path: str) -> str:
    """Return the command as the user typed it."""
    return "kubectl flexinfer" if Path(path).name == "kubectl-flexinfer" else "flexinfer"


def main(words: Sequence[str], *, program: str = "flexinfer") -> int:
    """Run one command; returns the exit status."""
    command = command_of(words)
    if command is not None and command not in COMMANDS and (near := nearest(command, COMMANDS)):
        sys.stderr.write(f"{program}: there is no command {command!r}; did you mean `{program} {near}`?\n")
        return 2
    try:
        parser = parser_of(program, [command] if command else [])
        arguments = parser.parse_args(words)
        if not hasattr(arguments, "run"):
            parser.print_help()
            return 2
        check(command or "", arguments)
        return int(arguments.run(arguments))
    except (UnreachableError, UnavailableError) as error:
        sys.stderr.write(f"{program}: {_no_answer(arguments, error)}\n")
        return 1
    except (CommandError, InstanceError, ApiError, SettingsError) as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"{program}: {place}{error.strerror or error}\n")
        return 1


def _no_answer(arguments: argparse.Namespace, error: Exception) -> str:
    """Return what to say where nothing answers: whether the instance that was asked runs, else the error."""
    with contextlib.suppress(InstanceError):
        state = stopped_instance(arguments, os.environ, getattr(error, "address", ""))
        if state is not None:
            return f"FlexInfer in {state} is not running: `flexinfer up --state {shlex.quote(str(state))}` starts it"
    return str(error)


def command_of(words: Sequence[str]) -> str | None:
    """Return the command of a command line, before which the options of all commands may stand; None if it has none."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    context_argument(options, "")
    try:
        rest = options.parse_known_args(words)[1]
    except argparse.ArgumentError:
        rest = list(words)
    return next((word for word in rest if not word.startswith("-")), None)


if __name__ == "__main__":
    boot()
