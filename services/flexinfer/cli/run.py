"""`flexinfer run`: components in this process, in the foreground."""

import argparse
import importlib

from flexinfer.api.services import SERVICES
from flexinfer.cli.errors import CommandError
from flexinfer.runtime.process import Runnable, run_all

CONTROLLERS = tuple(name for name in SERVICES if name != "proxy")
"""Everything but the data path."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the names of components, --controllers and --all."""
    parser.add_argument("names", nargs="*", metavar="COMPONENT", help=", ".join(SERVICES))
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--controllers", action="store_true", help="every component but the proxy")
    group.add_argument("--all", action="store_true", help="every component")


def run(options: argparse.Namespace) -> int:
    """Run the components until SIGTERM; settings come from FLEXINFER_* variables. Raises CommandError."""
    names = tuple(options.names)
    if options.all or options.controllers:
        names = tuple(SERVICES) if options.all else CONTROLLERS
    unknown = [name for name in names if name not in SERVICES]
    if unknown or not names:
        problem = f"unknown component {unknown[0]!r}" if unknown else "no component named"
        raise CommandError(f"{problem}; use --all, --controllers or some of: {', '.join(SERVICES)}")
    run_all([runnable(name) for name in names])
    return 0


def runnable(name: str) -> Runnable:
    """Return a component as its package defines it."""
    component: Runnable = importlib.import_module(f"flexinfer.{name}.__main__").RUNNABLE
    return component
