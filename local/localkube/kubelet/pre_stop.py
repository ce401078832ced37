"""The preStop hook of a container: https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from localkube.kubelet import probes
from localkube.kubelet.client import Object
from localkube.kubelet.probes import Target

log = logging.getLogger(__name__)


async def run(
    hook: Object,
    grace: float,
    target: Callable[[], Awaitable[Target | None]],
    session: aiohttp.ClientSession,
) -> str:
    """Run a hook for at most `grace` seconds; return what went wrong, empty if nothing did. One that takes longer is logged alone, as kubelet does.

    `target` tells how the container is reached, None if that is unknown: then only a `sleep` is run.
    """
    try:
        async with asyncio.timeout(grace):
            if "sleep" in hook:
                await asyncio.sleep(float(hook["sleep"]["seconds"]))
                return ""
            address = await target()
            if address is None or not ("exec" in hook or "httpGet" in hook):
                return ""
            return await probes.prober_of(hook, address, session)()
    except TimeoutError:
        log.warning("the preStop hook did not end within the grace period of %g s", grace)
        return ""
