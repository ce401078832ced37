"""The volume provisioner alone, for a node whose Pods a real kubelet runs.

`python -m localkube.kubelet.provisioner --root FOLDER --node NAME` creates a folder and a hostPath volume for each PVC of one
StorageClass, as the local node does for its own. For development clusters: it enforces no size, and any Pod may write to what it made.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from localkube.kubelet.client import Object, connected
from localkube.kubelet.local_volumes import STORAGE_CLASS, LocalVolumeProvisioner, VolumeFolders

log = logging.getLogger("localkube.provisioner")


async def serve(root: Path, node: str, kubeconfig: str, storage_class: Object) -> None:
    """Provision PVCs until a signal ends it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(kubeconfig) as client:
        provisioner = LocalVolumeProvisioner(client, VolumeFolders(root), node, storage_class)
        serving = asyncio.create_task(provisioner.run())
        end = asyncio.create_task(stop.wait())
        log.info("PVCs of node %s are in %s", node, root)
        await asyncio.wait((serving, end), return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, end):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def boot() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m localkube.kubelet.provisioner", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of this node for the volumes")
    parser.add_argument("--node", required=True, help="this node's name")
    parser.add_argument("--kubeconfig", default="", help="empty: the service account of the Pod")
    parser.add_argument("--storage-class", required=True, help="StorageClass to provision")
    parser.add_argument("--provisioner", required=True, help="the provisioner that the class names")
    flags = parser.parse_args()
    overrides = {"metadata": {"name": flags.storage_class}, "provisioner": flags.provisioner}
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.umask(0)  # any user of any container may write to a volume
    asyncio.run(serve(flags.root, flags.node, flags.kubeconfig, STORAGE_CLASS | overrides))


if __name__ == "__main__":
    boot()
