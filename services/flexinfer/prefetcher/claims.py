"""The audit of caches: each carries the policy of its Model, and one whose policy is Delete goes once the API server says that its Model is gone.

A PVC has no ownerReference: where Models are restored from a backup with other uids, a garbage collector would delete every one of
them. The policy is on the PVC as a label, so it is known when the Model is not any more, whatever was down at that time. All PVCs of
caches are listed once a resync, and at once after a deletion or a change of a policy. A PVC of the user's own is never listed.
"""

import asyncio
import logging
from collections.abc import Callable

from flexinfer.api import kube
from flexinfer.api.labels import COMPONENT_LABEL, MANAGED_BY_LABEL, MODEL_LABEL, RECLAIM_LABEL
from flexinfer.api.model import Model
from flexinfer.prefetcher.memory import Fact, Memory
from flexinfer.runtime.kubernetes.api import (
    CLAIMS,
    MODELS,
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    get_or_none,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.touched_keys import TouchedKeys
from flexinfer.sources import fetched
from flexinfer.state.observed import ObservedState

log = logging.getLogger(__name__)
RESYNC_SECONDS = 60.0
_PAUSE = 1.0
"""Seconds between two audits, however many Models are deleted."""
_CACHES = f"{MANAGED_BY_LABEL}=flexinfer-prefetcher,{COMPONENT_LABEL}=cache"


class ClaimAudit(TouchedKeys):
    """Compares the PVCs of caches with the Models, as last observed."""

    def __init__(self) -> None:
        super().__init__()
        self._state = ObservedState()
        self._to_delete: set[str] = set()
        self._due = asyncio.Event()

    def observe(self, state: ObservedState, _memory: Memory) -> None:
        """Take the newest state; a Model that is gone, or whose policy is or was Delete, is looked at without delay."""
        self._state = state
        for key in self._touched:
            model = state.models.get(key)
            deletes = model is not None and fetched.reclaim(model.spec) == fetched.DELETE
            if model is None or deletes != (key in self._to_delete):
                self._due.set()
            (self._to_delete.add if deletes else self._to_delete.discard)(key)
        self._touched.clear()

    async def watch(self, runtime: Runtime, _remember: Callable[[Fact], None]) -> None:
        """Audit until cancelled: a companion of the prefetcher's controller."""
        while True:
            if await runtime.sleep_unless(self._due, runtime.varied(RESYNC_SECONDS)):
                await runtime.sleep(_PAUSE)
            self._due.clear()
            if not runtime.is_leader():
                continue
            try:
                await self._audit(runtime)
            except ApiError as error:
                log.info("caches were not compared with their Models, the next resync does it: %s", error)

    async def _audit(self, runtime: Runtime) -> None:
        """Compare each PVC with its Model; one that the API server refuses to change keeps no other from being compared. Raises ApiError."""
        for claim in (await runtime.cluster.list(CLAIMS, labels=_CACHES)).items:
            if claim.metadata.deleting:
                continue
            try:
                await self._compare(runtime, claim)
            except (ConflictError, NotFoundError):
                continue  # it was changed or deleted meanwhile: the next resync sees it
            except (InvalidError, ForbiddenError) as error:
                log.warning("PVC %s is left as it is: %s", claim.metadata.key, error)

    async def _compare(self, runtime: Runtime, claim: kube.Claim) -> None:
        """Write name and policy of its Model on a PVC, or delete it with that. Raises ApiError.

        Whose it is its own name says. A label that says otherwise was edited: by it the weights of another Model would be deleted.
        """
        meta = claim.metadata
        name = meta.name.removesuffix(fetched.own_claim(""))
        model = self._state.models.get(f"{meta.namespace}/{name}")
        edited, policy = meta.labels.get(MODEL_LABEL) != name, meta.labels.get(RECLAIM_LABEL)
        if fetched.own_claim(name) != meta.name:
            return
        if model is not None:
            await _label(runtime, claim, model)
        elif not edited and policy == fetched.DELETE and await _is_gone(runtime, claim, name):
            await runtime.cluster.delete(CLAIMS, meta.namespace, meta.name, uid=meta.uid)
            log.info("PVC %s/%s was deleted: its Model is gone", meta.namespace, meta.name)


async def _label(runtime: Runtime, claim: kube.Claim, model: Model) -> None:
    """Write name and policy of the Model on the PVC. Raises ApiError."""
    meta, name, policy = claim.metadata, model.metadata.name, fetched.reclaim(model.spec)
    current = meta.labels.get(MODEL_LABEL), meta.labels.get(RECLAIM_LABEL, fetched.RETAIN)
    if current != (name, policy) and not model.deleting:
        body = {"metadata": {"uid": meta.uid, "labels": {MODEL_LABEL: name, RECLAIM_LABEL: policy}}}
        await runtime.cluster.merge(CLAIMS, meta.namespace, meta.name, body)


async def _is_gone(runtime: Runtime, claim: kube.Claim, name: str) -> bool:
    """Return whether the API server has no Model of the PVC. Raises ApiError."""
    return await get_or_none(runtime.cluster, MODELS, claim.metadata.namespace, name) is None
