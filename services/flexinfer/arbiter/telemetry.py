"""Telemetry: what a grant is checked against and what is noted with it, as it was last observed."""

import asyncio

from flexinfer.api.model import Model
from flexinfer.arbiter.release import STALE_SECONDS
from flexinfer.arbiter.strangers import Nodes
from flexinfer.state.observed import ObservedState, Sample


class Telemetry:
    """The last samples and nodes, for what a grant is checked against and what is noted with it."""

    def __init__(self) -> None:
        self._state = ObservedState()
        self._granting: dict[str, asyncio.Lock] = {}

    def granting(self, node: str) -> asyncio.Lock:
        """Return what a grant holds from its reads to its write: the next one on the node reads what it wrote."""
        return self._granting.setdefault(node, asyncio.Lock())

    @property
    def nodes(self) -> Nodes:
        """The nodes as they were last observed."""
        return self._state.nodes

    def observe(self, state: ObservedState, _memory: None) -> None:
        """Take the state before a round of decisions."""
        self._state = state

    def sample(self, node: str) -> Sample | None:
        """Return the last sample of a node."""
        return self._state.gpus.get(node)

    def is_awaited(self, model: Model, now: float) -> bool:
        """Tell whether a sample of a Model's devices may still come: agents publish every 10 s, and NATS was just connected.

        Without one it is not known what others use, and the memory of a foreign process would count as the holder's.
        """
        sample, since = self.sample(model.assigned_node), self._state.connected_since
        named = model.status.placement is not None and bool(model.status.placement.devices)
        recent = sample is not None and now - sample.at <= STALE_SECONDS
        return named and not recent and since is not None and now < since + STALE_SECONDS
