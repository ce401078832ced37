"""What is decided of a Model, and what an action writes."""

from typing import Any

import msgspec

from flexinfer.api.model import Gpu, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.api.status import ReadyStatus
from flexinfer.events import events
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Announce, Expose
from flexinfer.launcher.memory import EngineProbed
from flexinfer.state.actions import WriteStatus
from tests.builders import NOW, a_group, a_holder
from tests.keyed import on_all_models
from tests.unit.launcher.models import (
    IDLE,
    SETTINGS,
    a_probe,
    a_start,
    observed,
)

decide = on_all_models(deciding.decide)

CARD = Gpu(vendor="cpu")
SHARED = Gpu(vendor="nvidia", shared="card")
READY, LOADING, STOPPED = ("True", Reason.READY), ("False", Reason.LOADING), ("False", Reason.STOPPED)


def decided(*parts: Any, after: float = 0.0) -> list[Any]:
    """Return what is decided, some seconds after everything was observed."""
    state, memory = observed(*parts)
    return list(decide(state, memory, NOW + after, settings=SETTINGS))


def outcome(action: Any) -> tuple[str, str]:
    """Return status and reason of what an action writes."""
    return written(action).condition.status, written(action).condition.reason


def message(action: Any) -> str:
    """Return the message that an action writes."""
    return written(action).condition.message


def written(action: Any) -> WriteStatus:
    """Return the status write of an action, and what it writes with it."""
    write = action.write if isinstance(action, Expose | Announce) else action
    assert isinstance(write, WriteStatus)
    return write


def ready(action: Any) -> ReadyStatus:
    """Return the status that an action writes."""
    status = written(action).status
    assert isinstance(status, ReadyStatus)
    return status


def draining(*gates: Any, **changes: Any) -> Model:
    """Return a Model whose stop is published."""
    return a_start(*(gates or IDLE), ready=("False", Reason.DRAINING), **changes)


def traffic(model: Model, proxy: str, in_flight: int, version: int | None = None) -> events.ActivityObserved:
    """Return a proxy's report on a Model, which it has observed as it is unless `version` is another one."""
    return events.ActivityObserved(
        proxy=proxy,
        namespace="default",
        name=model.metadata.name,
        uid=model.uid,
        idle_seconds=0.0,
        in_flight=in_flight,
        waiting=0,
        version=model.metadata.version if version is None else version,
    )


def quiet(model: Model, pod: PodFacts, **changes: Any) -> EngineProbed:
    """Return an engine that says how many requests it works on."""
    return a_probe(model, pod, **({"in_flight": 0} | changes))


def the_group(step: str, turn: int = 4) -> SharedGroup:
    """Return the SharedGroup, held by llama."""
    return a_group(a_holder(step=step, turn=turn))


def with_messages(model: Model, **messages: str) -> Model:
    """Return a Model whose conditions of these types have these messages."""
    changed = tuple(
        msgspec.structs.replace(c, message=messages.get(c.type, c.message)) for c in model.status.conditions
    )
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=changed))
