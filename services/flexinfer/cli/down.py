"""`flexinfer down`: stop everything of one instance. Models, weights and history stay for the next `up`."""

import argparse
import asyncio
import contextlib
import os
import select
import signal

from flexinfer.cli.errors import CommandError
from flexinfer.cli.services import present
from flexinfer.cli.target import instance_of, state_argument
from flexinfer.local.instance import Instance, lock_holder, locked
from flexinfer.local.supervisor.supervisor import Supervisor

PATIENCE_SECONDS = 120.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take --state."""
    state_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Stop what runs, by its own `up` if that lives."""
    instance = instance_of(given)
    holder = lock_holder(instance.state)
    if holder:
        ask(holder)
        print(f"stopped; Models and weights stay in {instance.state}")
        return 0
    with locked(instance.state) as mine:
        if not mine:
            raise CommandError(f"somebody else works on {instance.state} at this moment: try again")
        ended = asyncio.run(stop_orphans(instance))
    print(f"stopped {', '.join(ended)}" if ended else f"nothing of {instance.state} runs")
    return 0


def ask(pid: int) -> None:
    """Ask the `up` of that pid to stop everything, and wait until it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with contextlib.closing(os.fdopen(descriptor)):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], PATIENCE_SECONDS)[0]:
            raise CommandError(f"process {pid} has not stopped after {PATIENCE_SECONDS:.0f} s")


async def stop_orphans(instance: Instance) -> list[str]:
    """Stop what a killed `up` left running; returns the names."""
    supervisor = Supervisor(instance, present(instance))
    await supervisor.adopt()
    await supervisor.stop()
    return supervisor.adopted
