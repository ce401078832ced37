"""`python -m flexinfer.proxy`."""

import asyncio
import contextlib
import secrets

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
from aiohttp import web

from flexinfer.proxy.activity import ActivityReporter
from flexinfer.proxy.cors import Cors
from flexinfer.proxy.engine import engine_session
from flexinfer.proxy.gateway import Gateway
from flexinfer.proxy.http import UNROUTED, application
from flexinfer.proxy.metrics import samples
from flexinfer.proxy.models import ModelTable
from flexinfer.proxy.server import ProxyRunner
from flexinfer.proxy.view import ModelView
from flexinfer.runtime.health import publish_port
from flexinfer.runtime.nats.connection import secret
from flexinfer.runtime.process import Runnable
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import PREFIX, SettingsError


def api_key(path: str) -> str:
    """Return the key that a file holds; empty without a file: then the proxy requires none.

    Raises SettingsError for a file without a key, which must not let every client in.
    """
    variable = f"{PREFIX}API_KEY_FILE"
    try:
        key = secret(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error}") from error
    if path and not key:
        raise SettingsError(
            f"{variable}: {path} is empty; write a key into it, or unset the variable to require none"
        )
    return key


async def main(runtime: Runtime) -> None:
    """Serve until cancelled; then let requests in flight end, and publish that this proxy has ended. Raises SettingsError."""
    settings = runtime.settings
    key = api_key(settings.api_key_file)
    table = ModelTable()
    activity = ActivityReporter(runtime, table, f"proxy-{settings.identity[:8]}-{secrets.token_hex(3)}")
    view = ModelView(runtime, table, activity.publish_now)
    async with engine_session() as session:
        gateway = Gateway(runtime, view, activity)
        app = application(gateway, session, key)
        unrouted = app[UNROUTED]
        runtime.expose(lambda: samples(view.routes(), unrouted))
        runner = ProxyRunner(app, Cors(settings.cors_origins), settings.drain_seconds)
        await runner.setup()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(view.follow())
                tasks.create_task(activity.run())
                site = web.TCPSite(runner, settings.proxy_host, settings.proxy_port)
                await site.start()
                if settings.proxy_port_file:
                    publish_port(settings.proxy_port_file, runner.addresses[0][1])
        finally:
            runtime.set_ready(False)
            with contextlib.suppress(TimeoutError):
                await runner.cleanup()
            await activity.shut_down()


RUNNABLE = Runnable("proxy", main, check=lambda settings: api_key(settings.api_key_file))
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
