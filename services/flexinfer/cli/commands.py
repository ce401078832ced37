"""The commands by name, and the parser of their words; the module of a command is imported when it is needed."""

import argparse
import importlib
from collections.abc import Collection, Mapping
from types import MappingProxyType

from flexinfer.cli.target import context_argument

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "up": "start everything on this machine and keep it running",
        "env": "print the variables that kubectl, OpenAI clients and NATS clients need, for eval",
        "services": "list the processes of `flexinfer up` and their health",
        "check": "show what a Model needs and this cluster or instance lacks, with the remedy of each",
        "down": "stop everything; Models and weights are kept for the next `up`",
        "gpus": "show the GPUs, who holds their memory, and why one is missing",
        "chat": "send chat completions to a Model",
        "why": "show why a Model is in its current state, and what to do next",
        "lease": "take GPU memory of a shared group for a game, a training run or another tool; give it back; list",
        "verify": "read the weights of a Model again and compare them with what was downloaded",
        "plan": "show where the Models of a file would go, who would have to leave, and why not elsewhere",
        "litellm": "print a config with which a LiteLLM proxy routes to the Models",
        "simulate": "replay requests on a card that Models share, in virtual time, and print who waited how long",
        "tap": "print the steps of Models as they happen; by subject, every event on NATS",
        "run": "run components in this process, in the foreground",
        "completion": "print a script that completes commands and options in bash, zsh or fish",
        "bench": "measure time to first token and tokens a second of a Model through the proxy, and keep them in its status",
        "snapshot": "print Models, shared groups, LiteLLM names and benchmarks as Markdown",
        "demo": "apply a Model, get an answer, scale to zero, start it again",
    }
)


def parser_of(program: str, selection: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser, which knows the options of the commands that are `selection`; only their modules are imported."""
    parser = argparse.ArgumentParser(
        prog=program, description="FlexInfer serves AI models from one Model resource each."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    context_argument(parser, "")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name in selection:
            module = importlib.import_module(f"flexinfer.cli.{name}")
            module.arguments(command)
            command.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    """Print the version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit with 0."""
        from importlib.metadata import version  # noqa: PLC0415 -- 2 MiB that `flexinfer up` need not keep

        print(f"flexinfer {version('flexinfer')}")
        parser.exit()
