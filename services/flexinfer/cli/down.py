"""`flexinfer down`: stop every process of one instance. Models, weights and history are kept for the next `up`."""

import argparse
import asyncio
import contextlib
import functools
import os
import select
import signal

from flexinfer.cli.at_rest import until_at_rest
from flexinfer.cli.errors import CommandError
from flexinfer.cli.services import present
from flexinfer.cli.target import instance_of, state_argument
from flexinfer.local.instance import Instance
from flexinfer.local.lock import lock_holder, locked
from flexinfer.local.supervisor.supervisor import Supervisor

TIMEOUT_SECONDS = 120.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --state."""
    state_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Stop what runs, through its own `up` if that is alive. Raises CommandError, InstanceError."""
    instance = instance_of(options)
    holder = lock_holder(instance.state)
    if holder:
        stop_up(holder)
        print(f"stopped; Models and weights are kept in {instance.state}")
        return 0
    with locked(instance.state) as acquired:
        if not acquired:
            raise CommandError(f"{instance.state} is locked by another command: try again")
        names = asyncio.run(stop_orphans(instance))
    print(f"stopped {', '.join(names)}" if names else f"nothing is running in {instance.state}")
    return 0


def stop_up(pid: int) -> None:
    """Make the `up` of that pid stop everything, and wait for it. Raises CommandError after 120 s."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with contextlib.closing(os.fdopen(descriptor)):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], TIMEOUT_SECONDS)[0]:
            raise CommandError(f"process {pid} is still running after {TIMEOUT_SECONDS:.0f}s")


async def stop_orphans(instance: Instance) -> list[str]:
    """Stop the processes that a killed `up` left running; returns their names."""
    at_rest = functools.partial(until_at_rest, instance)
    supervisor = Supervisor(instance, present(instance), at_rest=at_rest)
    await supervisor.adopt()
    await supervisor.stop()
    return supervisor.adopted
