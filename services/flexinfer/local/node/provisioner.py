"""The provisioner alone: claims of StorageClass `flexinfer-local` on a node whose Pods a real kubelet runs.

`python -m flexinfer.local.node.provisioner --root FOLDER --node NAME` makes each claim's folder on that node and a hostPath volume over
it, as the local node does for its own. For clusters of a developer: it measures and limits nothing, and any Pod may write what it made.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from flexinfer.local.node.claims import LocalClaims
from flexinfer.local.node.client import connected

log = logging.getLogger("flexinfer.provisioner")


async def serve(root: Path, node: str, kubeconfig: str) -> None:
    """Serve claims until a signal ends it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(kubeconfig) as client:
        serving = asyncio.create_task(LocalClaims(client, root, node).run())
        ended = asyncio.create_task(stop.wait())
        log.info("claims of node %s lie in %s", node, root)
        await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, ended):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def boot() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m flexinfer.local.node.provisioner", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of this node that holds claims")
    parser.add_argument("--node", required=True, help="this node's name")
    parser.add_argument("--kubeconfig", default="", help="empty: the service account of the Pod")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.umask(0)  # a claim belongs to whoever mounts it, whatever that container's user is
    asyncio.run(serve(given.root, given.node, given.kubeconfig))


if __name__ == "__main__":
    boot()
