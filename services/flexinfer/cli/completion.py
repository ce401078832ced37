"""`flexinfer completion`: a script that completes commands and options in a shell."""

import argparse

from flexinfer.cli.commands import COMMANDS, parser_of
from flexinfer.cli.errors import CommandError

SHELLS = ("bash", "zsh", "fish")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.epilog = "bash: source <(flexinfer completion bash)   fish: flexinfer completion fish | source"
    parser.add_argument("shell", choices=SHELLS, help="the shell that the script is for")


def run(options: argparse.Namespace) -> int:
    """Print the script. Raises CommandError."""
    try:
        import shtab  # noqa: PLC0415 -- only this command needs it
    except ModuleNotFoundError as error:
        raise CommandError("shtab is not installed: pip install 'flexinfer[local]'") from error
    print(shtab.complete(parser_of("flexinfer", COMMANDS), options.shell))
    return 0
