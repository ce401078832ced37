"""Reading a Model again: after a hint that it was written, and after a conflict."""

import logging
from collections.abc import Sequence

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import MODELS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import model_deleted, model_observed
from flexinfer.state.observed import Observation

log = logging.getLogger(__name__)


async def refetch(runtime: Runtime, namespace: str, name: str) -> Observation | None:
    """GET a Model that was written; None if the API server does not return it."""
    try:
        model = await runtime.cluster.get(MODELS, namespace, name)
    except ApiError as error:
        log.debug("model %s/%s not read: %s", namespace, name, error)
        return None
    return Observation(events.ModelObserved(model=model), runtime.clock(), reply=True)


async def reread(runtime: Runtime, previous: Model | None) -> Sequence[AnyEvent]:
    """GET a Model after a conflict; returns the events that lead to how it is now, none without an answer.

    Another uid means that the observed one was deleted.
    """
    if previous is None:
        return ()
    try:
        current = await runtime.cluster.get(MODELS, previous.metadata.namespace, previous.metadata.name)
    except NotFoundError:
        return (model_deleted(previous),)
    except ApiError:
        return ()
    event = model_observed(previous, current)
    return [model_deleted(previous), event] if current.uid != previous.uid else [event]
