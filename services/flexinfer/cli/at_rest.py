"""The end of an instance's engines: awaited before its controllers stop, so that no Model is stored as Ready for which nothing runs.

`flexinfer down` and the next `flexinfer up` would show it until a launcher has looked again.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from flexinfer.api import conditions
from flexinfer.api.kube import Pod
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.model import Model
from flexinfer.local.instance import PLANE, Instance
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import MODELS, PODS, ApiError, Cluster

STOP_SECONDS = 40.0
"""How long engines may take to stop: longer than their termination grace period."""
SEEN_SECONDS = 5.0
"""How long it may take after that until no Model says that it is Ready: a launcher that does not run will not say it."""
_LOOK_SECONDS = 0.05


async def until_at_rest(instance: Instance) -> None:
    """Return once no engine runs and no Model is Ready, or after a while; at once if no Model is Ready, or the API server does not answer."""
    if instance.api == PLANE:
        return
    with contextlib.suppress(ApiError, TimeoutError):
        async with (
            client.connected(str(instance.kubeconfig), light=True) as api,
            asyncio.timeout(STOP_SECONDS),
        ):
            await _until_at_rest(api)


async def _until_at_rest(api: Cluster) -> None:
    stopped_at: float | None = None
    while _any_ready((await api.list(MODELS)).items):
        if stopped_at is None and not _any_running((await api.list(PODS, labels=MODEL_UID_LABEL)).items):
            stopped_at = time.monotonic()
        if stopped_at is not None and time.monotonic() >= stopped_at + SEEN_SECONDS:
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _any_ready(models: Sequence[Model]) -> bool:
    """Return whether a Model says that its engine answers, also with the spec before."""
    ready = (model.condition(conditions.READY) for model in models)
    return any(condition is not None and condition.true for condition in ready)


def _any_running(pods: Sequence[Pod]) -> bool:
    return any(status.state.running is not None for pod in pods for status in pod.status.container_statuses)
