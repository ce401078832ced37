"""The order in which Models that start on one node are served. Pure."""

import math

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.state.observed import ObservedState


def start_order(state: ObservedState, model: Model) -> tuple[bool, float, str]:
    """Return the sort key of Models that start on one node: those whose memory was checked, then when each was seen to become wanted.

    The clocks of those who wrote the conditions are not compared.
    """
    wanted = model.condition(conditions.WANTED)
    since = state.changed(model, conditions.WANTED) if wanted is not None and wanted.true else None
    checked = model.spec.devices > 0 and not model.spec.group and model.checked
    return (not checked, since if since is not None else math.inf, model.key)
