"""The reader of provisioners' Events: why a PVC of a Model has no volume, as its provisioner wrote it on the PVC.

It runs beside the controller and decides nothing. While a Job waits for a PVC that is Pending, it asks for the Events of that PVC every few
seconds: no other component may read Events, and nothing is read while no volume is waited for. What an Event says is text of others: it is cut.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flexinfer.api import kube
from flexinfer.api.conditions import one_line
from flexinfer.events.workload import ClaimFacts
from flexinfer.prefetcher.memory import ClaimRefused, Fact, Memory
from flexinfer.runtime.kubernetes.api import CLAIM_EVENTS, ApiError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.touched_keys import TouchedKeys
from flexinfer.state.observed import ObservedState

EVERY_SECONDS = 3.0
_LONGEST = 512
"""Characters of a cause in a condition."""


class _Waiting(NamedTuple):
    """A PVC that has no volume, and the Model that waits for it."""

    key: str
    uid: str
    namespace: str
    claim: str
    claim_uid: str


class ProvisionerReader(TouchedKeys):
    """Reads the Events of every PVC that a Job waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, _Waiting] = {}
        self._causes: dict[str, str] = {}
        """Uid of a PVC -> what was remembered of it last."""
        self._changed = asyncio.Event()

    def observe(self, state: ObservedState, _memory: Memory) -> None:
        """Take the newest state."""
        for key in self._touched:
            waiting = _waiting(key, state)
            if waiting is not None:
                self._waiting[key] = waiting
            else:
                self._waiting.pop(key, None)
        self._touched.clear()
        uids = {waiting.claim_uid for waiting in self._waiting.values()}
        self._causes = {uid: cause for uid, cause in self._causes.items() if uid in uids}
        if self._waiting:
            self._changed.set()

    async def watch(self, runtime: Runtime, remember: Callable[[Fact], None]) -> None:
        """Ask until cancelled: a companion of the prefetcher's controller."""
        while True:
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            if runtime.is_leader():
                for waiting in tuple(self._waiting.values()):
                    await self._read(runtime, waiting, remember)
            await runtime.sleep(EVERY_SECONDS)

    async def _read(self, runtime: Runtime, waiting: _Waiting, remember: Callable[[Fact], None]) -> None:
        about = f"involvedObject.kind=PersistentVolumeClaim,involvedObject.name={waiting.claim},involvedObject.uid={waiting.claim_uid}"
        try:
            events = (await runtime.cluster.list(CLAIM_EVENTS, waiting.namespace, fields=about)).items
        except ApiError:
            return  # it is asked again in a moment
        cause = cause_of(events)
        if cause and self._causes.get(waiting.claim_uid) != cause:
            self._causes[waiting.claim_uid] = cause
            remember(ClaimRefused(key=waiting.key, uid=waiting.uid, claim_uid=waiting.claim_uid, cause=cause))


def cause_of(events: Iterable[kube.Event]) -> str:
    """Return what the newest warning says, on one line; empty if there is none."""
    warnings = [event for event in events if event.type == "Warning"]
    newest = max(warnings, key=lambda event: (event.moment, event.metadata.version), default=None)
    return one_line(f"{newest.reason}: {newest.message}")[:_LONGEST] if newest is not None else ""


def _waiting(key: str, state: ObservedState) -> _Waiting | None:
    """Return the PVC without a volume that a Job of a Model waits for; None if there is none."""
    model = state.models.get(key)
    if model is None:
        return None
    workload = state.workload(model)
    waits = any(not (job.complete or job.address) for job in workload.jobs)
    claim = next((claim for claim in workload.claims if _pending(claim)), None)
    if not waits or claim is None:
        return None
    return _Waiting(key, model.uid, model.metadata.namespace, claim.name, claim.uid)


def _pending(claim: ClaimFacts) -> bool:
    return claim.phase == "Pending" and bool(claim.storage_class)
