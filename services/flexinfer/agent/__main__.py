"""`python -m flexinfer.agent`."""

import asyncio
import logging
import secrets
from collections.abc import Sequence

from flexinfer.agent.node_labels import NodeLabels, labels_of, worth_writing
from flexinfer.agent.sample import HEARTBEAT_SECONDS, Sight, is_news, look, observed
from flexinfer.agent.vendors import Vendor, all_vendors
from flexinfer.runtime.kubernetes.api import NODES, ApiError
from flexinfer.runtime.process import Runnable, run_all
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import SettingsError

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


async def main(runtime: Runtime) -> None:
    """Tell what devices this node has, on change and every ten seconds, and note it on the Node."""
    await tell(runtime, all_vendors())


async def tell(runtime: Runtime, vendors: Sequence[Vendor]) -> None:
    """Look once a second where there are devices, else at each heartbeat; for ever."""
    node = runtime.settings.node_name
    if not node:
        raise SettingsError("FLEXINFER_NODE_NAME: an agent needs the name of its node")
    boot, number, told, told_at = secrets.token_hex(4), 0, Sight(), -HEARTBEAT_SECONDS
    note = _Noter(runtime, node)
    while True:
        sight = await asyncio.to_thread(look, vendors, told)
        now = runtime.clock()
        if not number or is_news(told, sight) or now - told_at >= HEARTBEAT_SECONDS:
            number, told, told_at = number + 1, sight, now
            await runtime.bus.publish(observed(sight, node, boot, number))
            runtime.set_ready(True)
        await note.write(labels_of(sight.devices))
        await runtime.sleep(_LOOK_SECONDS if sight.devices else HEARTBEAT_SECONDS)


class _Noter:
    """Writes notes on the node when they are worth it; the API server being away costs nothing but a later note."""

    def __init__(self, runtime: Runtime, node: str) -> None:
        self._runtime, self._node = runtime, node
        self._written: NodeLabels | None = None
        self._at = 0.0

    async def write(self, notes: NodeLabels | None) -> None:
        """Patch the node, unless it says nearly as much already."""
        now = self._runtime.clock()
        if notes is None or not worth_writing(self._written, notes, now - self._at):
            return
        try:
            await self._runtime.cluster.merge(NODES, "", self._node, notes.patch())
        except ApiError as error:
            log.info("the node %s was not annotated: %s", self._node, error)
            return
        self._written, self._at = notes, now


RUNNABLE = Runnable("agent", main)


def boot() -> None:
    """Run the agent until told to stop."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
