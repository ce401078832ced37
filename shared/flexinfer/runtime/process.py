"""A process: settings, connections, health, signals, and the work; torn down in reverse order.

`run` is the body of every reactor's `__main__`, `run_main` that of agent and proxy, of which any number may run. `run_all` puts several
into one process, for small machines.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from flexinfer.runtime import health, log
from flexinfer.runtime.controller import A, Controller, F, M, run_controller
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.leader_election import LeaderElector
from flexinfer.runtime.nats import connection, state_reader
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings, SettingsError, load, warnings

Main: TypeAlias = Callable[[Runtime], Awaitable[None]]
logger = logging.getLogger(__name__)


class Runnable(msgspec.Struct, frozen=True):
    """A named component; `elects`: of several replicas only the leader acts."""

    name: str
    main: Main
    elects: bool = False


def runnable_of(name: str, controller: Callable[[Settings], Controller[A, F, M]]) -> Runnable:
    """Return the runnable of a deciding component; its controller is built from the settings of the runnable."""

    async def main(runtime: Runtime) -> None:
        await run_controller(runtime, controller(runtime.settings))

    return Runnable(name, main, elects=True)


def run_all(runnables: Sequence[Runnable]) -> None:
    """Run several services in one process until told to stop; exits 2 on bad settings, 1 when one fails."""
    name = runnables[0].name if len(runnables) == 1 else "all"
    try:
        settings = load(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"flexinfer-{name}: {error}\n")
        raise SystemExit(2) from error
    log.set_up(name, settings.log_level)
    for sentence in warnings(os.environ):
        logger.warning(sentence)
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 -- an extra

        uvloop.install()
    try:
        asyncio.run(_serve(runnables, settings))
    except ApiError as error:
        sys.stderr.write(f"flexinfer-{name}: {error}\n")
        raise SystemExit(1) from error
    except BaseExceptionGroup as failures:
        logger.critical("stopped by a failure", exc_info=failures)
        raise SystemExit(1) from failures


async def _serve(runnables: Sequence[Runnable], settings: Settings) -> None:
    state = health.Health(settings.build)
    waiting = {runnable.name for runnable in runnables}

    def ready(name: str) -> Callable[[bool], None]:
        def say(up: bool) -> None:  # noqa: FBT001 -- the fact itself
            waiting.discard(name) if up else waiting.add(name)
            state.set_ready(not waiting)

        return say

    async with health.served(state, settings.health_host, settings.health_port, settings.health_port_file):
        work = [_one(runnable, settings, ready(runnable.name)) for runnable in runnables]
        await until_stopped(_together(work))


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for one in work:
            tasks.create_task(one)


async def _one(runnable: Runnable, settings: Settings, ready: Callable[[bool], None]) -> None:
    async with runtime_for(runnable.name, settings, ready) as (runtime, api):
        if not runnable.elects:
            await runnable.main(runtime)
            return
        leadership = LeaderElector(runnable.name, settings.identity)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(leadership.keep(runtime))
                await runnable.main(_fenced(runtime, api, leadership))
        finally:
            await leadership.give_back(runtime)


def _fenced(runtime: Runtime, api: client.KubernetesClient, leadership: LeaderElector) -> Runtime:
    """Return what a replica acts by: it writes nothing while its Lease is not good, whatever it was about to do."""

    def holds() -> bool:
        return leadership.holds(runtime.clock())

    return msgspec.structs.replace(
        runtime,
        cluster=api.writing_while(holds),
        is_leader=holds,
        is_standby=leadership.is_standby,
        became_leader=leadership.gained,
    )


@contextlib.asynccontextmanager
async def runtime_for(
    name: str, settings: Settings, ready: Callable[[bool], None]
) -> AsyncIterator[tuple[Runtime, client.KubernetesClient]]:
    """Connect everything that a service needs."""
    spawn_background: set[asyncio.Task[object]] = set()

    def run_beside(work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(_logged(work))
        spawn_background.add(task)
        task.add_done_callback(spawn_background.discard)

    async with contextlib.AsyncExitStack() as stack:
        link = await stack.enter_async_context(
            connection.connected(
                name,
                settings.nats_url,
                settings.nats_user,
                settings.nats_password_file,
                settings.nats_ca_file,
            )
        )
        api = await stack.enter_async_context(client.connected(settings.kubeconfig))
        runtime = Runtime(
            name=name,
            settings=settings,
            cluster=api,
            bus=state_reader.NatsBus(link),
            connection=link,
            clock=time.monotonic,
            utc_now=lambda: datetime.now(UTC),
            sleep=asyncio.sleep,
            random=random.random,
            set_ready=ready,
            spawn_background=run_beside,
            is_leader=lambda: True,
        )
        yield runtime, api
        for task in tuple(spawn_background):
            task.cancel()


async def _logged(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except Exception:
        logger.warning("work beside the path failed", exc_info=True)


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
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
