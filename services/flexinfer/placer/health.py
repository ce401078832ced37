"""Health: whether the node of a Model, and the devices that it has there, can be relied on. Pure."""

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.placer.state import PlacementState

GONE_SECONDS = 60.0
"""How long a node may be not ready before a Model without devices leaves it."""
_UNHEALTHY = (Reason.NODE_NOT_READY, Reason.DEVICE_OUT_OF_USE)


def is_unhealthy(model: Model) -> bool:
    """Return whether the Model's condition says that its node is not ready, or a device of it out of use."""
    placed = model.condition(conditions.PLACED)
    return placed is not None and placed.true and placed.reason in _UNHEALTHY


def unhealthy_since(model: Model, placements: PlacementState) -> float | None:
    """Return since when the Model's condition says that its node is not ready."""
    if not is_unhealthy(model):
        return None
    return placements.observed.changed(model, conditions.PLACED)


def silence_unread(model: Model, placements: PlacementState) -> bool:
    """Return whether the node may have returned in what this process has not read yet, as after a pause of it."""
    since = unhealthy_since(model, placements)
    return since is not None and placements.observed.caught_up_at < since + GONE_SECONDS <= placements.now
