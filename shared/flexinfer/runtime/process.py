"""A process: settings, connections, health, signals, and one or more components; torn down in reverse order.

`Runnable.boot` is what every component's `__main__` runs; `run_all` puts several runnables into one process, for
small machines. What a component decides is its own; how a decision becomes effects is `control_loop`'s.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from flexinfer.runtime import event_loop, log
from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.health import Health, served
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.leader_election import LeaderElector
from flexinfer.runtime.nats import connection, state_reader
from flexinfer.runtime.nats.connection import NatsClosedError
from flexinfer.runtime.readiness import BLIND_SECONDS, Readiness
from flexinfer.runtime.runtime import Runtime, Work
from flexinfer.runtime.settings import Settings, SettingsError, load, warnings

if TYPE_CHECKING:  # what decides is memory that the agent and the proxy need not spend
    from flexinfer.runtime.controller import A, Controller, F, M

Main: TypeAlias = Callable[[Runtime], Awaitable[None]]
logger = logging.getLogger(__name__)


class Runnable(msgspec.Struct, frozen=True):
    """A named component; `elects`: of several replicas only the leader acts. `check` raises SettingsError for what it cannot run with.

    `light`: it does so little that asyncio's own event loop is enough, which takes 2 MiB less than the faster one, and that it may ask the
    Kubernetes API without aiohttp, 7 MiB less; it watches nothing there.
    """

    name: str
    main: Main
    elects: bool = False
    light: bool = False
    check: Callable[[Settings], object] = lambda _settings: None

    def boot(self) -> None:
        """Run it alone in this process until SIGTERM or SIGINT. Raises SystemExit, as `run_all`."""
        run_all([self])


def runnable_of(name: str, controller: "Callable[[Settings], Controller[A, F, M]]") -> Runnable:
    """Return the runnable of a deciding component.

    Its controller is built from the settings of the process.
    """

    async def main(runtime: Runtime) -> None:
        from flexinfer.runtime.control_loop import run_controller  # noqa: PLC0415

        await run_controller(runtime, controller(runtime.settings))

    return Runnable(name, main, elects=True)


def run_all(runnables: Sequence[Runnable]) -> None:
    """Run components in this process until SIGTERM or SIGINT.

    Raises SystemExit: 2 for bad settings, 1 if a component fails.
    """
    name = runnables[0].name if len(runnables) == 1 else "all"
    try:
        settings = load(os.environ)
        for runnable in runnables:
            runnable.check(settings)
    except SettingsError as error:
        sys.stderr.write(f"flexinfer-{name}: {error}\n")
        raise SystemExit(2) from error
    log.set_up(name, settings.log_level)
    for sentence in warnings(os.environ):
        logger.warning(sentence)
    if not all(runnable.light for runnable in runnables):
        event_loop.install()
    try:
        asyncio.run(_serve(runnables, settings))
    except ApiError as error:
        sys.stderr.write(f"flexinfer-{name}: {error}\n")
        raise SystemExit(1) from error
    except BaseExceptionGroup as failures:
        _, others = failures.split(NatsClosedError)  # that was logged where it happened
        if others is not None:
            logger.critical("stopped by a failure", exc_info=others)
        raise SystemExit(1) from failures


async def _serve(runnables: Sequence[Runnable], settings: Settings) -> None:
    readiness = [
        Readiness(runnable.name, monotonic, BLIND_SECONDS if runnable.elects else None)
        for runnable in runnables
    ]
    state = Health(settings.build, readiness)
    async with served(state, settings.health_host, settings.health_port, settings.health_port_file):
        work = [
            run_component(runnable, settings, own) for runnable, own in zip(runnables, readiness, strict=True)
        ]
        await until_stopped(_run_together(work))


async def _run_together(work: Sequence[Work]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for one in work:
            tasks.create_task(one)


async def run_component(runnable: Runnable, settings: Settings, readiness: Readiness) -> None:
    """Run one component until it ends; of several replicas of one that is elected only the leader writes.

    Raises NatsClosedError, ApiError, and what its main raises.
    """
    async with runtime_for(runnable.name, settings, readiness, light=runnable.light) as (runtime, api):
        if not runnable.elects:
            await runnable.main(runtime)
            return
        elector = LeaderElector(runnable.name, settings.identity)
        async with api.separate() as leases:
            await _elect(runnable, elector, msgspec.structs.replace(runtime, cluster=leases), runtime, api)


async def _elect(
    runnable: Runnable,
    elector: LeaderElector,
    electing: Runtime,
    runtime: Runtime,
    api: client.KubernetesClient,
) -> None:
    """Run a component beside its leader election, whose Lease has a connection of its own."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(elector.run(electing))
            await runnable.main(_fenced(runtime, api, elector))
    finally:
        await elector.release(electing)


def _fenced(runtime: Runtime, api: client.KubernetesClient, elector: LeaderElector) -> Runtime:
    """Return the runtime of a replica that writes nothing while it is not the leader."""

    def is_leader() -> bool:
        return elector.is_leader(runtime.clock())

    return msgspec.structs.replace(
        runtime,
        cluster=api.writing_while(is_leader),
        is_leader=is_leader,
        is_standby=elector.is_standby,
        became_leader=elector.became_leader,
    )


@contextlib.asynccontextmanager
async def runtime_for(
    name: str, settings: Settings, readiness: Readiness, *, light: bool = False
) -> AsyncIterator[tuple[Runtime, client.KubernetesClient]]:
    """Open the connections of a component, by a light client if it is; yields its runtime and the client behind `Runtime.cluster`.

    Waits for NATS as long as it takes. Raises ApiError if there is no access to the API server.
    """
    async with (
        _nats(name, settings, readiness) as link,
        client.connected(settings.kubeconfig, readiness.report_problem, light=light) as api,
        _background() as spawn_background,
    ):
        yield (
            Runtime(
                name=name,
                settings=settings,
                cluster=api,
                bus=state_reader.NatsBus(link, readiness.report_problem),
                connection=link,
                clock=monotonic,
                utc_now=lambda: datetime.now(UTC),
                sleep=asyncio.sleep,
                random=random.random,
                set_ready=readiness.set_ready,
                expose=readiness.expose,
                report_problem=readiness.report_problem,
                report_failure=readiness.report_failure,
                spawn_background=spawn_background,
                is_leader=lambda: True,
            ),
            api,
        )


@contextlib.asynccontextmanager
async def _background() -> AsyncIterator[Callable[[Work], None]]:
    """Yield what runs a coroutine that nothing waits for; all are cancelled at the end, however that comes."""
    background: set[asyncio.Task[object]] = set()

    def spawn(work: Work) -> None:
        task = asyncio.create_task(_logged(work))
        background.add(task)
        task.add_done_callback(background.discard)

    try:
        yield spawn
    finally:
        for task in tuple(background):
            task.cancel()


@contextlib.asynccontextmanager
async def _nats(name: str, settings: Settings, readiness: Readiness) -> AsyncIterator[connection.Connection]:
    address = settings.nats_url.rpartition("@")[2]  # without a password

    def report(up: bool) -> None:  # noqa: FBT001 -- the value itself
        readiness.report_problem("nats", None if up else f"NATS is not connected at {address}")

    report(up=False)
    async with connection.connected(
        name, settings.nats_url, settings.nats_user, settings.nats_password_file, settings.nats_ca_file
    ) as link:
        report(up=True)
        link.notify(report)
        yield link


async def _logged(work: Work) -> None:
    try:
        await work
    except Exception:
        logger.warning("background work failed", exc_info=True)


async def until_stopped(work: Coroutine[object, object, None]) -> None:
    """Run work until it ends or SIGTERM or SIGINT arrives; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            os._exit(130)
        stopping = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
