"""The audit of Services: whatever another client deletes or edits is found within one resync.

No component watches Services: they change only by hand. A watch would cost each of them a place in memory and in the state stream for
that; a GET for each Model would be thousands of calls. So all of them are listed, once a resync: at 2,000 Models four pages and some 50 ms
of computation a minute. The audit decides nothing: what it finds is a fact, and the launcher's decision restores the Service.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from flexinfer.api import kube
from flexinfer.api.labels import MANAGED_BY_LABEL
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.launcher.manifests import LaunchSettings, service
from flexinfer.launcher.memory import Memory, ServiceDrifted
from flexinfer.launcher.service_drift import drift
from flexinfer.launcher.view import view_of
from flexinfer.runtime.kubernetes.api import SERVICES, ApiError
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState

log = logging.getLogger(__name__)
RESYNC_SECONDS = 60.0
_MODELS_AT_ONCE = 100
"""How many Models are looked at before other tasks run."""


class ServiceAudit:
    """Compares the Services with the Models, as the launcher last observed these."""

    def __init__(self, settings: LaunchSettings) -> None:
        self._settings, self._state = settings, ObservedState()

    def observe(self, state: ObservedState, _memory: Memory) -> None:
        """Take the newest state."""
        self._state = state

    async def watch(self, runtime: Runtime, remember: Callable[[ServiceDrifted], None]) -> None:
        """Audit once a resync until cancelled: a companion of the launcher's controller."""
        while True:
            await runtime.sleep(runtime.varied(RESYNC_SECONDS))
            if not runtime.is_leader():
                continue
            try:
                await self._audit(runtime, remember)
            except ApiError as error:
                log.info("Services were not compared with their Models, the next resync does it: %s", error)

    async def _audit(self, runtime: Runtime, remember: Callable[[ServiceDrifted], None]) -> None:
        # The Models are those from before the LIST: the Service of a newer one may be younger than the LIST.
        models = list(self._exposed())
        labels = f"{MANAGED_BY_LABEL}=flexinfer-launcher"
        items = (await runtime.cluster.list(SERVICES, labels=labels)).items
        services = {f"{s.metadata.namespace}/{s.metadata.name}": s for s in items}
        for number, model in enumerate(models):
            if self._drifted(model, services):
                remember(ServiceDrifted(key=model.key, uid=model.uid))
            if number % _MODELS_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _exposed(self) -> Iterator[Model]:
        """Yield the Models whose Service the launcher has created for this generation, or could not create."""
        for model in self._state.models.values():
            view = view_of(model)
            if view.accepted.true and view.ready.current and model.status.endpoint and not model.deleting:
                yield model

    def _drifted(self, model: Model, services: Mapping[str, kube.Service]) -> bool:
        existing = services.get(model.key)
        is_taken = view_of(model).ready.reason == Reason.NAME_TAKEN
        return is_taken or existing is None or bool(drift(existing, service(model, self._settings)))
