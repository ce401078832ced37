"""The way in which a Model's Pod gets its devices, as its placement says it and as its node offers it now. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flexinfer.api.bindings import DEVICE_PLUGIN, DRA
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.placer.nodeview import node_view
from flexinfer.placer.offers import Offer, Offers
from flexinfer.placer.requirements import Requirements

if TYPE_CHECKING:
    from flexinfer.placer.state import PlacementState


def offers_on(placements: "PlacementState", node: str) -> Offers:
    """Return how Pods get the devices of a node, by vendor; empty if there is no such node."""
    facts = placements.observed.nodes.get(node)
    return node_view(facts, placements.devices(node)).offers if facts is not None else {}


def plugged(model: Model) -> bool:
    """Return whether a Model's Pod requests its devices as an extended resource; one that is not placed is taken to."""
    return (model.status.placement or Placement()).binding in ("", DEVICE_PLUGIN)


def shareable(requirements: Requirements, offers: Offers) -> frozenset[str]:
    """Return the devices that a Model may have together with others: by DRA only with a stated part of the memory of each."""
    candidates = [one for one in offers.values() if one.binding != DRA or _in_parts(requirements, one)]
    return frozenset(uuid for one in candidates for uuid in one.shared)


def _in_parts(requirements: Requirements, offer: Offer) -> bool:
    """Return whether a Model's claim requests a part of each of its devices, whichever they are."""
    alike = requirements.devices == 1 or {*offer.shared} == {*offer.uuids}
    return requirements.device_mb > 0 and alike


def bound(placements: "PlacementState", model: Model, placement: Placement) -> Placement:
    """Return a placement with the way in which its node gives its devices now.

    It stays as it is once the Model has a Pod, which has them as the placement says, and where the node does not give these devices.
    """
    offer = _given(placements, placement)
    if offer is None:
        return placement
    return offer.sized(placement) if placements.pods(model) else offer.bound(placement)


def _given(placements: "PlacementState", placement: Placement) -> Offer | None:
    """Return the offer of the devices of a placement; None if they are not known, or if its node does not give them."""
    if not placement.devices:
        return None
    offer = offers_on(placements, placement.node).get(placement.vendor)
    return offer if offer is not None and offer.uuids.issuperset(placement.uuids) else None


def differs(placements: "PlacementState", model: Model) -> bool:
    """Return whether the node gives the devices in another way than the placement says: the Model's next Pod needs the present one."""
    placement = model.status.placement or Placement()
    offer = _given(placements, placement)
    return offer is not None and not offer.agrees(placement) and not placements.pods(model)


def offered_twice(placements: "PlacementState", placement: Placement) -> Sequence[str]:
    """Return the devices of a placement that a device plugin offers as well as their DRA driver."""
    if not placement.driver:
        return []
    offer = offers_on(placements, placement.node).get(placement.vendor, Offer())
    return [uuid for uuid in placement.uuids if uuid in offer.twice]
