"""Ready as it is written: the one place where the launcher's status is put together. Pure.

A message says only what the launcher itself knows, never what another condition says; and it holds no number that changes while nothing
else does, for each change of a message is a write.
"""

from collections.abc import Iterator

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.model import BackendStatus
from flexinfer.api.status import ReadyStatus
from flexinfer.launcher.effects import Action, Announce, Expose
from flexinfer.launcher.manifests import LaunchSettings, endpoint, service
from flexinfer.launcher.view import ModelContext, ModelView
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus

RUN_GATES = (conditions.WANTED, conditions.GRANTED)
"""What a running engine depends on: a write about one is not made if these changed meanwhile."""
STOP_GATES = (conditions.WANTED, conditions.GRANTED, conditions.PLACED)
SCHEDULING = "Scheduling"
"""The first stage of loading: its Pod waits for a node."""
WAITING_FOR_SCHEDULER = "Pod is waiting for the scheduler"
TURN_OVER = "the Pod of this turn is gone; the devices are released, then granted again"
NOT_STARTED = "the engine starts once Accepted, Placed, Cached, Wanted and Granted are True"
"""Which of them is missing is not named: it would be a write at each step of a Model that is at rest."""


def node_exits(node: str) -> str:
    """Return the commands that give up a node, so that what runs there is no longer waited for."""
    return f"kubectl delete node {node}, or if it is switched off kubectl taint node {node} {OUT_OF_SERVICE_TAINT}=:NoExecute"


def no_engine(view: ModelView) -> BackendStatus:
    """Return the backend of an engine that cannot be asked: no address, no stage; what was measured and the turn's Pod stay."""
    return msgspec.structs.replace(view.backend, address="", loading_stage="")


def returned(view: ModelView, turn: int) -> BackendStatus:
    """Return the backend of a Model whose stop answers the release of a turn."""
    return msgspec.structs.replace(no_engine(view), turn=turn, pod_uid="")


def opening(view: ModelView, turn: int, pod_uid: str) -> BackendStatus:
    """Return the backend that names the one Pod of a turn, before its gate opens."""
    return msgspec.structs.replace(no_engine(view), loading_stage=SCHEDULING, turn=turn, pod_uid=pod_uid)


def at_stage(view: ModelView, stage: str, restarts: int) -> BackendStatus:
    """Return the backend of an engine that loads."""
    return msgspec.structs.replace(no_engine(view), loading_stage=stage, restarts=restarts)


def healthy(view: ModelView, address: str, seconds: float, restarts: int) -> BackendStatus:
    """Return the backend of an engine that answers."""
    return msgspec.structs.replace(no_engine(view), address=address, load_seconds=seconds, restarts=restarts)


def not_ready(
    view: ModelView,
    settings: LaunchSettings,
    reason: str,
    message: str,
    backend: BackendStatus | None = None,
    gates: tuple[str, ...] = (),
) -> WriteStatus | None:
    """Return the write of Ready=False, or None if the Model has it already."""
    condition = actions.false(view.model, conditions.READY, reason, message)
    return _write(view, settings, condition, backend or no_engine(view), gates)


def write_not_ready(
    context: ModelContext,
    reason: str,
    message: str,
    backend: BackendStatus | None = None,
    gates: tuple[str, ...] = (),
) -> Iterator[Action]:
    """Yield the write of Ready=False, unless the Model has it already."""
    yield from _publish(context, not_ready(context.view, context.settings, reason, message, backend, gates))


def write_unknown(context: ModelContext, reason: str, message: str, stage: str) -> Iterator[Action]:
    """Yield the write of Ready=Unknown, unless the Model has it already; `stage` is what is to be remembered of the engine."""
    view = context.view
    condition = actions.condition(view.model, conditions.READY, conditions.UNKNOWN, reason, message)
    backend = msgspec.structs.replace(no_engine(view), loading_stage=stage)
    yield from _publish(context, _write(view, context.settings, condition, backend))


def write_ready(context: ModelContext, reason: str, message: str, backend: BackendStatus) -> Iterator[Action]:
    """Yield the write of Ready=True, unless the Model has it already."""
    view = context.view
    condition = actions.true(view.model, conditions.READY, reason, message)
    yield from _publish(context, _write(view, context.settings, condition, backend, RUN_GATES))


def _write(
    view: ModelView,
    settings: LaunchSettings,
    condition: Condition,
    backend: BackendStatus,
    gates: tuple[str, ...] = (),
) -> WriteStatus | None:
    status = ReadyStatus(condition=condition, endpoint=_endpoint(view, settings), backend=backend)
    return actions.write_if_changed(view.model, status, gates)


def _endpoint(view: ModelView, settings: LaunchSettings) -> str:
    """Return the endpoint to write: none of a Model at rest whose newer spec is refused, as of a new one that is.

    Its Service is then brought up to date with the endpoint, once that spec is accepted without another generation.
    """
    if view.accepted.true:
        return endpoint(view.model, settings)
    return "" if view.ready.at_rest and not view.ready.current else view.model.status.endpoint


def _publish(context: ModelContext, write: WriteStatus | None) -> Iterator[Action]:
    """Yield a write with what belongs to it: the Service at the first one of an accepted spec, the hint when Ready turns True.

    A Ready that serves an older spec is of this generation although its spec was not accepted when that was written.
    """
    if write is None:
        return
    view = context.view
    pod, announce = context.pod, None
    if write.condition.true and not view.ready.true and pod is not None:
        announce = Announce(write=write, pod_uid=pod.uid)
    is_exposed = view.ready.current and not view.ready.older_spec and view.model.status.endpoint
    if view.accepted.true and not is_exposed:
        yield Expose(write=write, service=service(view.model, context.settings), announce=announce)
    elif announce is not None:
        yield announce
    else:
        yield write
