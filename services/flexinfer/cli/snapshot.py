"""`flexinfer snapshot`: what is served, where and how fast, as a Markdown page to keep beside the manifests.

It reads Models, SharedGroups and GPULeases, and changes nothing.
"""

import argparse
import asyncio

from flexinfer.cli import reach
from flexinfer.cli.snapshot_page import Snapshot, page
from flexinfer.cli.target import target_arguments
from flexinfer.runtime.kubernetes.api import GPU_LEASES, MODELS, SHARED_GROUPS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the namespace, and where the API server is."""
    parser.add_argument("-n", "--namespace", default="", help="only what is in one namespace")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the page. Raises ApiError."""
    print(page(asyncio.run(_read(options))), end="")
    return 0


async def _read(options: argparse.Namespace) -> Snapshot:
    async with reach.api(options) as api:
        return Snapshot(
            models=(await api.list(MODELS, options.namespace)).items,
            groups=(await api.list(SHARED_GROUPS, options.namespace)).items,
            leases=(await api.list(GPU_LEASES, options.namespace)).items,
        )
