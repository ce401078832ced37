"""What the watcher has to say of a Model: Accepted, and the phase that follows from all conditions. Pure.

The verdict goes out at once, since everything waits for it. The phase is for people: it is written when the conditions have been
still for a moment, or at once when it becomes Ready. ADR 0017 says how long that moment is.
"""

import msgspec

from flexinfer.contracts import actions, conditions, keys
from flexinfer.contracts.actions import Recheck, Report
from flexinfer.contracts.model import Model
from flexinfer.contracts.phase import explain, phase_of
from flexinfer.watcher.validate import accepted

STILL_SECONDS = 0.2


def judge(model: Model, changed: float, now: float) -> Report | Recheck | None:
    """Return what to write of a Model that last changed at `changed`, or when to look again; None: it says it all."""
    verdict, generation = accepted(model), model.metadata.generation
    said = (verdict, *(c for c in model.status.conditions if c.type != keys.ACCEPTED))
    phase = phase_of(said, generation)
    fields = {
        "phase": phase,
        "observedGeneration": generation,
        "message": conditions.one_line(explain(said, generation)),
    }
    told = actions.report(model, verdict, fields)
    if told is None or not conditions.same(model.condition(keys.ACCEPTED), verdict):
        return told
    at = changed if phase == keys.PHASE_READY != model.status.phase else changed + STILL_SECONDS
    return Recheck(at) if now < at else msgspec.structs.replace(told, gates=keys.CONDITIONS, quiet=True)
