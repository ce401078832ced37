"""The devices that a running Model's engine has, as its node's device plugin has picked them, and which of them is out of use. Pure.

A Pod cannot ask a device plugin for one device: the placement names the one that has room, the plugin takes any. What it took is in the
Pod's status; the placement names that one from then on, since that is where the Model's memory is.
"""

from flexinfer.api.model import Model
from flexinfer.events.nodes import Device
from flexinfer.placer.state import PlacementState
from flexinfer.state.index import scheduled_to


def picked(model: Model, placements: PlacementState) -> tuple[str, ...]:
    """Return the uuids of the devices that the Model's newest Pod has; empty while that, or one of the devices, is not known."""
    node = scheduled_to(model)
    pods = [pod for pod in placements.pods(model) if pod.node == node and pod.devices]
    if not pods:
        return ()
    by_id = {
        name: device.uuid for device in placements.devices(node) for name in (device.pci, device.uuid) if name
    }
    uuids = [by_id.get(name, "") for name in pods[-1].devices]
    return tuple(uuids) if all(uuids) and len(uuids) == model.spec.devices else ()


def differs(model: Model, uuids: tuple[str, ...]) -> bool:
    """Return whether devices that are known are others than those of the Model's placement."""
    placement = model.status.placement
    return bool(uuids) and placement is not None and set(uuids) != set(placement.uuids)


def out_of_use(model: Model, placements: PlacementState) -> Device | None:
    """Return a device of a Model's placement that must not be used until it was reset, as telemetry last said; None if there is none."""
    placement = model.status.placement
    uuids = placement.uuids if placement is not None else ()
    return next(
        (d for d in placements.devices(scheduled_to(model)) if d.uuid in uuids and d.out_of_use), None
    )
