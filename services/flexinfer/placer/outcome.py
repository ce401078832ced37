"""The placer's status of a Model, and whether it is written. Pure."""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.services import SERVICES
from flexinfer.api.status import PlacedStatus
from flexinfer.placer import messages
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus

_GATES = SERVICES["placer"].gates


def placed(model: Model, placement: Placement | None, reason: Reason, message: str) -> PlacedStatus:
    """Return the status of a Model that keeps its placement.

    While its newer spec is not accepted, the condition stays one of the generation that it was decided for.
    """
    condition = actions.true(model, conditions.PLACED, reason, message)
    current = model.condition(conditions.PLACED)
    if current is not None and not model.is_true(conditions.ACCEPTED):
        condition = msgspec.structs.replace(condition, observed_generation=current.observed_generation)
    return PlacedStatus(condition=condition, placement=placement)


def not_placed(model: Model, reason: Reason, message: str, placement: Placement | None) -> PlacedStatus:
    """Return the status of a Model that is not placed; `placement` is where it still has Pods."""
    condition = actions.false(model, conditions.PLACED, reason, message)
    return PlacedStatus(condition=condition, placement=placement)


def write(model: Model, status: PlacedStatus) -> WriteStatus | None:
    """Return the write of a status; None if the Model has it, or one with nearly the same free memory."""
    current = model.condition(conditions.PLACED)
    if current is None:
        return WriteStatus(model=model, status=status, gates=_GATES)
    condition = _with_current_message(status.condition, current)
    if condition is not status.condition:
        status = PlacedStatus(condition=condition, placement=status.placement)
    return actions.write_if_changed(model, status, gates=_GATES)


def _with_current_message(condition: Condition, current: Condition) -> Condition:
    if not messages.nearly_equal(current.message, condition.message):
        return condition
    candidate = msgspec.structs.replace(condition, message=current.message)
    return candidate if conditions.same(current, candidate) else condition
