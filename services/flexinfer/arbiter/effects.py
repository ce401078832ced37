"""What the arbiter can do to a SharedGroup and its GPULeases. Pure: `perform` carries it out.

Each effect holds what it was decided from; it is carried out only if that is still so.
"""

from typing import TypeAlias

import msgspec

from flexinfer.api.conditions import Condition
from flexinfer.api.lease import GPULease, GPULeaseStatus
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import Holder, SharedGroup


def key_of(namespace: str, group: str) -> str:
    """Return the key of a group, for decisions and effects; its name may contain any character."""
    return f"group/{namespace}/{group}"


class Create(msgspec.Struct, frozen=True, kw_only=True):
    """Create the SharedGroup of a group that a Model names."""

    namespace: str
    group: str

    @property
    def key(self) -> str:
        """The group."""
        return key_of(self.namespace, self.group)


class OnGroup(msgspec.Struct, frozen=True, kw_only=True):
    """An effect on an existing SharedGroup, as it was when this was decided."""

    group: SharedGroup

    @property
    def key(self) -> str:
        """The group."""
        return key_of(self.group.metadata.namespace, self.group.name)


class Initialize(OnGroup, frozen=True, kw_only=True):
    """Look at the Pods of these Models, and write the first status.

    `highest_turn` is the highest turn that any of their statuses names.
    """

    models: tuple[Model, ...]
    highest_turn: int


class Grant(OnGroup, frozen=True, kw_only=True):
    """Grant the group's devices to a Model, as the next turn."""

    model: Model


class GrantLease(OnGroup, frozen=True, kw_only=True):
    """Grant memory of the group's devices to a GPULease, as the next turn."""

    lease: GPULease


class Advance(OnGroup, frozen=True, kw_only=True):
    """Move a holder to its next step; `model` is the Model that this was decided from, None if it was deleted or is a GPULease."""

    holder: Holder
    step: str
    model: Model | None = None
    reason: str = ""


class Preempt(OnGroup, frozen=True, kw_only=True):
    """Make a holder leave so that there is room for a Model or GPULease of its group."""

    holder: Holder
    waiter: Model | GPULease
    reason: str


class Rebind(OnGroup, frozen=True, kw_only=True):
    """Name the devices that the holder's engine has got, `uuids`, in place of those that were granted."""

    holder: Holder
    model: Model
    pod_uid: str
    uuids: tuple[str, ...]


class Report(OnGroup, frozen=True, kw_only=True):
    """Write a condition of the SharedGroup, about holders that are still as they were."""

    condition: Condition


class WriteLeaseStatus(OnGroup, frozen=True, kw_only=True):
    """Write the status of a GPULease as the group has it now; `status` is without what only the clock of the write tells."""

    lease: GPULease
    status: GPULeaseStatus


class CheckLeaseExpiry(OnGroup, frozen=True, kw_only=True):
    """Look up by the wall clock how long a GPULease that is granted lasts yet."""

    lease: GPULease


class Protect(OnGroup, frozen=True, kw_only=True):
    """Put the finalizer of a SharedGroup back that was removed while it has a holder."""


class Unprotect(OnGroup, frozen=True, kw_only=True):
    """Remove the finalizer of a SharedGroup that is being deleted and that has no holder."""


OnAnyGroup: TypeAlias = (
    Initialize
    | GrantLease
    | Advance
    | Preempt
    | Rebind
    | Report
    | WriteLeaseStatus
    | CheckLeaseExpiry
    | Protect
    | Unprotect
)
"""Every effect on an existing SharedGroup that is read alone; that of a Grant is read with all others."""
Effect: TypeAlias = Create | Grant | OnAnyGroup
