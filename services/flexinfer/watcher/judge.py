"""What the watcher has to say of a Model: Accepted, and the phase that follows from all conditions. Pure.

The verdict goes out at once, since everything waits for it. The phase is for people: it is written when the conditions have been
still for a moment, or at once when it becomes Ready. ADR 0017 says how long that moment is.
"""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase, explain, phase_of
from flexinfer.api.status import AcceptedStatus
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.watcher.accepted import accepted

STILL_SECONDS = 0.2


def judge(model: Model, changed: float, now: float) -> WriteStatus | RequeueAt | None:
    """Return what to write of a Model that last changed at `changed`, or when to look again; None: it says it all."""
    verdict, generation = accepted(model), model.metadata.generation
    said = (verdict, *(c for c in model.status.conditions if c.type != conditions.ACCEPTED))
    phase = phase_of(said, generation)
    status = AcceptedStatus(
        condition=verdict,
        phase=phase,
        observed_generation=generation,
        message=conditions.one_line(explain(said, generation)),
    )
    told = actions.write_if_changed(model, status)
    if told is None or not conditions.same(model.condition(conditions.ACCEPTED), verdict):
        return told
    at = changed if phase == Phase.READY != model.status.phase else changed + STILL_SECONDS
    return (
        RequeueAt(at) if now < at else msgspec.structs.replace(told, gates=conditions.CONDITIONS, quiet=True)
    )
