"""Growth of a cache: the PVC that FlexInfer made gets the size that its weights need, where the StorageClass allows it.

The size that a spec states is the largest: a larger one in the spec is what the PVC grows to. What a user named is never changed.
"""

import logging

from flexinfer.api import kube
from flexinfer.api.model import Model
from flexinfer.api.quantity import Quantity, milli
from flexinfer.runtime.kubernetes.api import CLAIMS, STORAGE_CLASSES, ApiError, get_or_none
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
_GIB = 2**30
_SPARE = 10
"""Percent of what was missing that is added to it: file systems keep some of a volume for themselves."""


async def grow(runtime: Runtime, model: Model, name: str, lacks: int) -> None:
    """Make a PVC larger by the bytes that it lacks, if that is allowed. What the API server refuses is logged: the next try meets it again."""
    try:
        await _grow(runtime, model, name, lacks)
    except ApiError as error:
        log.warning("PVC %s/%s did not grow: %s", model.metadata.namespace, name, error)


async def _grow(runtime: Runtime, model: Model, name: str, lacks: int) -> None:
    namespace = model.metadata.namespace
    claim = await runtime.cluster.get(CLAIMS, namespace, name)
    size = target(claim, model.spec.cache.size if model.spec.cache is not None else None, lacks)
    if not size or not await _may_grow(runtime, claim):
        return
    body = {"metadata": {"uid": claim.metadata.uid}, "spec": {"resources": {"requests": {"storage": size}}}}
    await runtime.cluster.merge(CLAIMS, namespace, name, body)
    log.info("PVC %s/%s grows to %s: its weights need %d bytes more", namespace, name, size, lacks)


def target(claim: kube.Claim, stated_size: Quantity | None, lacks: int) -> Quantity:
    """Return the size that a PVC is to have; empty if it has asked for as much already.

    Counted from the capacity that it has, so that a growth that is not complete yet is not added to.
    """
    request = claim.spec.resources.requests.get("storage", 0)
    capacity = milli(claim.status.capacity.get("storage", request)) // 1000
    needed_gib = -(-(capacity + lacks * (100 + _SPARE) // 100) // _GIB)
    size: Quantity = stated_size if stated_size is not None else f"{needed_gib}Gi"
    return size if milli(size) > milli(request) else ""


async def _may_grow(runtime: Runtime, claim: kube.Claim) -> bool:
    """Return whether the StorageClass of a PVC allows larger volumes. Raises ApiError."""
    name = claim.spec.storage_class_name or ""
    storage_class = await get_or_none(runtime.cluster, STORAGE_CLASSES, "", name)
    return storage_class is not None and storage_class.allow_volume_expansion
