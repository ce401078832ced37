"""`python -m flexinfer.agent`."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Sequence

from flexinfer.agent.node_labels import NodeLabels, labels_of, retry_seconds, without_devices, worth_writing
from flexinfer.agent.sample import HEARTBEAT_SECONDS, DeviceSample, event_of, is_significant, sample
from flexinfer.agent.vendors import Vendor, all_vendors, simulated
from flexinfer.runtime.kubernetes.api import NODES, ApiError
from flexinfer.runtime.process import Runnable
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import SettingsError

log = logging.getLogger(__name__)
_SAMPLE_SECONDS = 1.0
_AWAITED_SECONDS, _AWAITED_FOR_SECONDS = 0.1, 5.0
"""The interval between samples while one is waited for, and how long that is after the hint: memory that comes back later is seen within a second."""
_CERTAIN_SECONDS = 0.25
"""So long after a hint every sample is published, changed or not: the one that is waited for must be from after the step was seen, not of just before."""
_BLIND_SECONDS = 60.0
"""A library that has failed for so long does not come back to this process."""


class LibraryLostError(Exception):
    """A vendor's library fails at every call, and has shown devices before."""


async def main(runtime: Runtime) -> None:
    """Publish the devices of this node on change and every 10 s, and label the Node; until cancelled."""
    simulation = runtime.settings.simulated_gpus
    await publish_samples(runtime, (simulated.vendor(simulation),) if simulation else all_vendors())


async def publish_samples(runtime: Runtime, vendors: Sequence[Vendor]) -> None:
    """Sample once a second where there are devices, else at each heartbeat; until cancelled.

    After a hint that a sample is waited for it samples at once and ten times a second for five seconds, and publishes the first of these
    whatever they show: at most three messages more than the changes themselves.

    What NATS has not stored is published again with the next sample, after a second: at the start of an installation
    the agent may be there before the stream that keeps its telemetry.

    Raises SettingsError if the name of the node is not set, and LibraryLostError after a minute without an answer
    about devices that were there: a container that lost its access to them, as by `systemctl daemon-reload`, has it
    again after a restart, and not before.
    """
    node = runtime.settings.node_name
    if not node:
        raise SettingsError("FLEXINFER_NODE_NAME is not set; the agent needs the name of its node")
    async with _followed(_Awaited(runtime, node)) as hints:
        await _publish_samples(runtime, vendors, node, hints)


async def _publish_samples(runtime: Runtime, vendors: Sequence[Vendor], node: str, hints: "_Awaited") -> None:
    boot, number, stored = secrets.token_hex(4), 0, False
    previous, published_at = DeviceSample(), -HEARTBEAT_SECONDS
    labels = _NodeLabelWriter(runtime, node)
    seen_at = runtime.clock()
    while True:
        began = runtime.clock()
        current = await asyncio.to_thread(sample, vendors, previous)
        now = runtime.clock()
        due = not stored or hints.is_certain(began) or now - published_at >= HEARTBEAT_SECONDS
        if due or is_significant(previous, current):
            number, previous, published_at = number + 1, current, now
            stored = await runtime.bus.publish(event_of(current, node, boot, number, runtime.clock() - began))
            runtime.set_ready(True)
        await labels.write(labels_of(current.devices))
        seen_at = seen_at if current.blind else now
        if now - seen_at >= _BLIND_SECONDS:
            raise LibraryLostError(
                f"no device was seen for {now - seen_at:.0f}s: {current.message}; starting again"
            )
        await hints.sleep(_SAMPLE_SECONDS if current.devices or not stored else HEARTBEAT_SECONDS)


class _Awaited:
    """The hints that a sample of this node is waited for, and the pauses between samples that follow from them."""

    def __init__(self, runtime: Runtime, node: str) -> None:
        self._runtime, self._node = runtime, node
        self._hinted = asyncio.Event()
        self._hinted_at = float("-inf")

    async def follow(self) -> None:
        """Take hints, until cancelled."""
        async for _ in self._runtime.bus.hints("sample", self._node):
            self._hinted_at = self._runtime.clock()
            self._hinted.set()

    def is_certain(self, began: float) -> bool:
        """Return whether a sample that was begun then is published whatever it shows."""
        return 0 <= began - self._hinted_at < _CERTAIN_SECONDS

    async def sleep(self, seconds: float) -> None:
        """Wait for the next sample: for so long, less while one is waited for, and not at all after a hint."""
        if self._runtime.clock() - self._hinted_at < _AWAITED_FOR_SECONDS:
            seconds = min(seconds, _AWAITED_SECONDS)
        await self._runtime.sleep_unless(self._hinted, seconds)
        self._hinted.clear()


@contextlib.asynccontextmanager
async def _followed(hints: _Awaited) -> AsyncIterator[_Awaited]:
    """Take hints during the block."""
    task = asyncio.create_task(hints.follow())
    try:
        yield hints
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _NodeLabelWriter:
    """Writes labels on the Node when they are worth it.

    An unavailable API server delays them, and nothing else.
    """

    def __init__(self, runtime: Runtime, node: str) -> None:
        self._runtime, self._node = runtime, node
        self._written: NodeLabels | None = None
        self._tried_at = self._written_at = float("-inf")
        self._failures = 0

    async def write(self, labels: NodeLabels | None) -> None:
        """Patch the Node, unless it holds nearly the same; None: the node has no devices."""
        now = self._runtime.clock()
        if labels is None and self._written is not None:
            labels = without_devices(self._written)
        if labels is None or now < self._tried_at + retry_seconds(self._failures):
            return
        if not worth_writing(self._written, labels, now - self._written_at):
            return
        self._tried_at = now
        try:
            await self._runtime.cluster.merge(NODES, "", self._node, labels.patch())
        except ApiError as error:
            self._failures += 1
            seconds = retry_seconds(self._failures)
            log.info("labels of node %s not written: %s; retrying in %g s", self._node, error, seconds)
            return
        self._written, self._written_at, self._failures = labels, now, 0


RUNNABLE = Runnable("agent", main, light=True)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
