"""`python -m flexinfer.proxy`."""

import asyncio
import contextlib
import os
import secrets

import aiohttp

# isort: split
from aiohttp import web

from flexinfer.proxy.activity import Ledger
from flexinfer.proxy.gateway import Door
from flexinfer.proxy.http import application
from flexinfer.proxy.view import View
from flexinfer.runtime.health import publish_port
from flexinfer.runtime.nats.connection import secret
from flexinfer.runtime.process import Runnable, run_all
from flexinfer.runtime.runtime import Runtime


async def main(runtime: Runtime) -> None:
    """Serve until told to stop; then finish what is under way and say farewell."""
    settings = runtime.settings
    ledger = Ledger(runtime, f"{settings.identity}-{os.getpid()}-{secrets.token_hex(3)}")
    view = View(runtime, ledger.answer)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
        door = Door(runtime, view, ledger)
        runner = web.AppRunner(
            application(door, session, secret(settings.api_key_file)),
            access_log=None,
            shutdown_timeout=settings.drain_seconds,
            handler_cancellation=True,
        )
        await runner.setup()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(view.follow())
                tasks.create_task(ledger.keep())
                site = web.TCPSite(runner, settings.proxy_host, settings.proxy_port)
                await site.start()
                if settings.proxy_port_file:
                    publish_port(settings.proxy_port_file, runner.addresses[0][1])
        finally:
            runtime.set_ready(False)
            with contextlib.suppress(TimeoutError):
                await runner.cleanup()
            await ledger.farewell()


RUNNABLE = Runnable("proxy", main)


def boot() -> None:
    """Run the proxy until told to stop."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
