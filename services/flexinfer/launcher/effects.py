"""What the launcher can do, beside writing a status: start an engine, stop it, expose it. Pure: `perform` carries it out.

An effect holds everything that was decided, objects as they are to be created included: what carries it out reads, checks and acts.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.manifests import Json
from flexinfer.state.actions import CatchUp, RequeueAt, WithWrite, WriteStatus


class Purpose(StrEnum):
    """Why Pods are deleted; checked again by new reads before any is."""

    STOP = "stop"  # nothing may run; Stopped is written
    RENEW = "renew"  # a Pod of another template or turn replaces them
    CLEAR = "clear"  # they failed; the condition stays as it is
    AWAIT = "await"  # another client deleted them, and they do not go: nothing is deleted, only said


class NotCreatedError(Exception):
    """An object of a Model cannot be created; Ready says why."""

    def __init__(self, model: Model, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.model, self.reason = model, reason


class NameTakenError(NotCreatedError):
    """An object that does not belong to the Model has the needed name; it is left unchanged."""

    def __init__(self, model: Model, kind: str, name: str) -> None:
        command = f"kubectl delete {kind.lower()} {name} -n {model.metadata.namespace}"
        super().__init__(
            model,
            Reason.NAME_TAKEN,
            f"a {kind} named {name} exists and does not belong to this Model; "
            f"delete it ({command}) or rename the Model",
        )


class _OnModel(msgspec.Struct, frozen=True, kw_only=True):
    """An effect on what belongs to a Model, as it was when this was decided."""

    model: Model

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


class Start(_OnModel, frozen=True, kw_only=True):
    """Create the Pod of a turn, and open its gate.

    `template` is the digest of the Pod's template. `service` is created first, if it is given.
    """

    turn: int
    pod: Json
    template: str
    service: Json | None = None


class Stop(_OnModel, frozen=True, kw_only=True):
    """Delete these Pods, and wait until no Pod of the Model is left.

    `draining_since` is when the drain before it began (monotonic seconds), None without one. `force` does not wait for the kubelet.
    """

    pods: tuple[PodFacts, ...]
    purpose: Purpose
    cause: str
    draining_since: float | None = None
    force: bool = False


class Announce(WithWrite, frozen=True, kw_only=True):
    """Write Ready=True of the engine in this Pod, then send the proxies a hint."""

    pod_uid: str


class Expose(WithWrite, frozen=True, kw_only=True):
    """Create or update the Model's Service, then write the status; with `announce` as that does."""

    service: Json
    announce: Announce | None = None


class RestoreService(_OnModel, frozen=True, kw_only=True):
    """Restore the Model's Service, which another client deleted or edited."""

    service: Json

    @property
    def key(self) -> str:
        """A key beside the Model's: nothing waits for it."""
        return f"{self.model.key}/service"


class Protect(_OnModel, frozen=True, kw_only=True):
    """Put the finalizer back that was removed while the engine runs."""

    @property
    def key(self) -> str:
        """A key beside the Model's: nothing waits for it."""
        return f"{self.model.key}/finalizer"


class Relabel(msgspec.Struct, frozen=True, kw_only=True):
    """Put the labels back that a Pod of the Model has lost."""

    model: Model
    pod: PodFacts

    @property
    def key(self) -> str:
        """A key beside the Model's: nothing waits for it."""
        return f"{self.model.key}/labels"


Effect: TypeAlias = Start | Stop | Expose | Announce | RestoreService | Protect | Relabel
Action: TypeAlias = Effect | WriteStatus | RequeueAt | CatchUp
