"""`flexinfer run`: services in this process, in the foreground; `--all` for small machines."""

import argparse
import importlib

from flexinfer.cli.errors import CommandError
from flexinfer.local.bus import SERVICES
from flexinfer.runtime.process import Runnable, run_all


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take the names of services, or --all."""
    parser.add_argument("names", nargs="*", metavar="SERVICE", help=", ".join(SERVICES))
    parser.add_argument("--all", action="store_true", help="every service in this one process")


def run(given: argparse.Namespace) -> int:
    """Run the services until told to stop; settings come from FLEXINFER_* variables."""
    names = SERVICES if given.all else tuple(given.names)
    unknown = [name for name in names if name not in SERVICES]
    if unknown or not names:
        said = f"there is no service {unknown[0]!r}" if unknown else "name a service, or say --all"
        raise CommandError(f"{said}: {', '.join(SERVICES)}")
    run_all([runnable(name) for name in names])
    return 0


def runnable(name: str) -> Runnable:
    """Return a component as its package defines it."""
    found: Runnable = importlib.import_module(f"flexinfer.{name}.__main__").RUNNABLE
    return found
