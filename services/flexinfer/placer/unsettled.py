"""The nodes on which Models may still take memory of devices that telemetry does not show: a fit there may be tighter than measured memory says. Pure.

They are looked for once for the same Models and telemetry, and of others only those nodes are looked at where something has changed: a decision
must not cost more the more Models run.
"""

from collections.abc import Mapping

import msgspec

from flexinfer.api import conditions
from flexinfer.placer.claims import loaded_by, takes_devices
from flexinfer.state.index import STARTING
from flexinfer.state.observed import ObservedState, Occupant, Sample


class _Node(msgspec.Struct, frozen=True):
    """A node whose Models and telemetry were looked at, and whether one of them may still take memory."""

    occupants: Mapping[str, Occupant]
    sample: Sample | None
    unsettled: bool


class _Last(msgspec.Struct, frozen=True):
    """What was looked at last, and the nodes that are unsettled there."""

    occupants: Mapping[str, Mapping[str, Occupant]] = {}
    gpus: Mapping[str, Sample] = {}
    by_node: Mapping[str, _Node] = {}
    unsettled: frozenset[str] = frozenset()


_last = [_Last()]


def unsettled(state: ObservedState) -> frozenset[str]:
    """Return the names of the nodes, known or not, on which a Model starts, or has not loaded when its node's last sample was taken."""
    last = _last[0]
    if last.occupants is state.occupants and last.gpus is state.gpus:
        return last.unsettled
    by_node: dict[str, _Node] = {}
    for name, occupants in state.occupants.items():
        node, sample = last.by_node.get(name), state.gpus.get(name)
        if node is None or node.occupants is not occupants or node.sample is not sample:
            node = _Node(occupants, sample, _is_unsettled(state, name))
        by_node[name] = node
    names = frozenset([name for name, node in by_node.items() if node.unsettled])
    _last[0] = _Last(state.occupants, state.gpus, by_node, names)
    return names


def _is_unsettled(state: ObservedState, name: str) -> bool:
    sample, starting = state.gpus.get(name), state.under(STARTING, name)
    return any(
        takes_devices(occupant.model) and (key in starting or not _has_loaded(occupant, sample))
        for key, occupant in state.occupants[name].items()
    )


def _has_loaded(occupant: Occupant, sample: Sample | None) -> bool:
    since = occupant.changed_at.get(conditions.READY)
    return sample is not None and loaded_by(sample, occupant.model, since)
