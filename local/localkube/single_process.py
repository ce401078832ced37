"""API server and kubelet in one process: on one machine, Python and its libraries then take their memory once.

SIGTERM ends both and leaves the Pods' processes running, for the next kubelet to adopt; SIGUSR1 stops those first. It exits with 1 when
the journal cannot be written.
"""

import asyncio
import logging
import signal

from localkube.apiserver import server
from localkube.apiserver.journal import Journal, JournalError
from localkube.apiserver.server import ServerOptions
from localkube.kubelet import node
from localkube.kubelet.node import NodeOptions

logger = logging.getLogger("localkube")


def run(api: ServerOptions, kubelet: NodeOptions) -> int:
    """Run both until a signal; return the exit code."""
    try:
        with server.opened(api.state) as journal:
            return asyncio.run(_serve(api, kubelet, journal))
    except JournalError as error:
        logger.critical("%s", error)
        return 1


async def _serve(api: ServerOptions, kubelet: NodeOptions, journal: Journal) -> int:
    leave, stop = asyncio.Event(), asyncio.Event()
    failures: list[JournalError] = []

    def fail(error: JournalError) -> None:
        failures.append(error)
        leave.set()

    loop = asyncio.get_running_loop()
    for number, event in ((signal.SIGTERM, leave), (signal.SIGINT, leave), (signal.SIGUSR1, stop)):
        loop.add_signal_handler(number, event.set)
    async with server.serving(api, journal, fail):
        await node.serve(kubelet, leave, stop)
    if failures:
        logger.critical("%s", failures[0])
    return 1 if failures else 0
