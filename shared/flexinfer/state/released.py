"""Since when telemetry shows all that the holders which are off a SharedGroup's list have given back. Pure."""

from collections.abc import Mapping

from flexinfer.api.sharedgroup import STOPPED, SharedGroup
from flexinfer.state.observed import StepSince


def released_at(
    before: SharedGroup | None,
    after: SharedGroup,
    step_since: Mapping[tuple[str, str], StepSince],
    at: float,
) -> float | None:
    """Return it for a SharedGroup that is observed at `at`; None if no holder is off its list since `before`.

    A holder is taken off by a sample from after its stop, if that stop was seen here. Of a group that is seen for the first time, only what
    comes later tells.
    """
    if before is None:
        return at if after.status.turn else None
    holder_uids = {holder.uid for holder in after.status.holders}
    last_steps = [
        step_since.get((after.key, h.uid)) for h in before.status.holders if h.uid not in holder_uids
    ]
    return max(
        (step.at if step is not None and step.step == STOPPED else at for step in last_steps), default=None
    )
