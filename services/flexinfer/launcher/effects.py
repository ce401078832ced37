"""What the launcher can do, beside writing a status: start an engine, stop it, expose it. Pure: `perform` carries them out."""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from flexinfer.api.model import Model
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.manifests import Template
from flexinfer.state.actions import RequeueAt, WriteStatus


class Purpose(StrEnum):
    """Why Pods are deleted; it is checked again by fresh reads before anything is."""

    STOP = "stop"  # nothing may run; Stopped is written
    RENEW = "renew"  # a Pod of another template or turn replaces them
    CLEAR = "clear"  # they failed; the condition stays as it is


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Create the Pod of a turn from a template, and open its gate."""

    model: Model
    turn: int
    template: Template

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Delete these Pods, and wait until no Pod of the Model is left.

    `draining_since` is when the drain before it began (monotonic seconds), None without one. `force` does not wait for the kubelet.
    """

    model: Model
    pods: tuple[PodFacts, ...]
    purpose: Purpose
    cause: str
    draining_since: float | None = None
    force: bool = False

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


class Expose(msgspec.Struct, frozen=True):
    """Bring the Model's Service in line with its spec, then write the status."""

    write: WriteStatus

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.write.key


class Announce(msgspec.Struct, frozen=True):
    """Write Ready=True, then send the proxies a hint."""

    write: WriteStatus

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.write.key


Effect: TypeAlias = Start | Stop | Expose | Announce
Action: TypeAlias = Effect | WriteStatus | RequeueAt
