"""Fences: a DELETE that is still on its way does not reach an engine that serves.

A DELETE whose answer was lost may arrive much later, after its Model was requested again and its Pod kept. It carries the Pod's
resourceVersion, so that one write of the Pod keeps it off. Opening a gate is such a write; a Pod whose gate a predecessor
opened, or that this process has tried to delete since, is written once more before its engine becomes Ready.
"""

from flexinfer.api.labels import KEPT_ANNOTATION
from flexinfer.api.model import Model
from flexinfer.runtime.kubernetes.api import PODS, ConflictError, InvalidError
from flexinfer.runtime.runtime import Runtime


class Fences:
    """By key of a Model, the uid of its Pod that no DELETE sent before can reach."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}

    def wrote(self, key: str, pod_uid: str) -> None:
        """Note that a Pod was written."""
        self._written[key] = pod_uid

    def deletes(self, key: str) -> None:
        """Note that a DELETE of a Model's Pod is about to be sent; its answer may never arrive."""
        self._written.pop(key, None)

    async def ensure(self, runtime: Runtime, model: Model, pod_uid: str) -> None:
        """Write the Pod, unless that was done since the last DELETE. Raises ConflictError if it is terminating or another one, ApiError."""
        if self._written.get(model.key) == pod_uid:
            return
        annotations = {KEPT_ANNOTATION: runtime.utc_now().isoformat()}
        body = {"metadata": {"uid": pod_uid, "annotations": annotations}}
        name = model.pod_name
        try:
            pod = await runtime.cluster.merge(PODS, model.metadata.namespace, name, body)
        except InvalidError as error:
            raise ConflictError(f"Pod {name} is another one: {error}", 409) from error
        if pod.metadata.deleting:
            raise ConflictError(f"Pod {name} is terminating", 409)
        self.wrote(model.key, pod_uid)
