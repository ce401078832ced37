"""Telemetry of the nodes: whether it may be used for a start, why there is none, and when time alone changes that. Pure."""

import math
from bisect import bisect_right
from collections.abc import Collection, Sequence

from flexinfer.api.labels import GPU_VENDOR_LABEL
from flexinfer.placer.fit import AWAITED, NONE, RECENT, STALE
from flexinfer.placer.freelist import free_lists
from flexinfer.state.observed import STALE_SECONDS, ObservedState


class Telemetry:
    """The telemetry of the observed state at a time."""

    __slots__ = ("now", "observed")

    def __init__(self, state: ObservedState, now: float) -> None:
        self.observed, self.now = state, now

    def state(self, node: str) -> str:
        """Return whether telemetry of a node is RECENT enough for a new start on a device, STALE, AWAITED or NONE.

        A node that an agent has labelled had telemetry once, also where this process has seen none.
        """
        sample = self.observed.gpus.get(node)
        if sample is not None:
            return RECENT if self.now < sample.stale_at else STALE
        if self.now < self._awaited_until(node):
            return AWAITED
        return STALE if GPU_VENDOR_LABEL in self.observed.nodes[node].labels else NONE

    def _awaited_until(self, node: str) -> float:
        """Return until when a node without telemetry may still send some: its agent publishes far more often than that."""
        connected_at = self.observed.connected_since
        since = max(
            self.observed.node_since.get(node, 0.0), connected_at if connected_at is not None else self.now
        )
        return since + STALE_SECONDS

    def silence(self, node: str, vendor: str) -> str:
        """Return why a node's agent reports no device of a vendor; empty if it reports one."""
        sample = self.observed.gpus.get(node)
        if sample is None:
            return "it has sent nothing"
        if any(device.vendor == vendor for device in sample.observed.devices):
            return ""
        return sample.observed.message or "it sees none"

    def due(self, nodes: Collection[str]) -> float | None:
        """Return when recent telemetry stops being so, or is awaited no longer: of the first of these nodes."""
        gpus, present = self.observed.gpus, self.observed.nodes
        times = [gpus[name].stale_at for name in nodes if name in gpus]
        times += [self._awaited_until(name) for name in nodes if name in present and name not in gpus]
        return min((at for at in times if at > self.now), default=None)

    def first_due(self) -> float | None:
        """Return when that is so next of any node: thousands of decisions ask it of the same nodes."""
        state, connected_at = self.observed, self.observed.connected_since
        stale, waits = free_lists(state.nodes, state.gpus).deadlines(state.node_since)
        earliest = (connected_at if connected_at is not None else self.now) + STALE_SECONDS
        due = _next(stale, self.now)
        if waits:
            silent = max(waits[0], earliest) if earliest > self.now else _next(waits, self.now)
            due = min(due, silent)
        return due if due < math.inf else None


def _next(times: Sequence[float], now: float) -> float:
    """Return the first of sorted times that is yet to come; infinite if there is none."""
    index = bisect_right(times, now)
    return times[index] if index < len(times) else math.inf
