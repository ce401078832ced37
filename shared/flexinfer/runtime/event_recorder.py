"""Kubernetes Events: what happened to an object, for people. Nothing waits for them, and one that is not written is not written again."""

import hashlib
import logging
from typing import TypeAlias

from flexinfer.api.metadata import CustomResource
from flexinfer.runtime.kubernetes.api import EVENTS, ApiError
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
Json: TypeAlias = dict[str, object]
"""A JSON object of the Kubernetes API."""
_DELAY_SECONDS = 0.1
"""By how long an Event is delayed, so that the components which wait for the object read it first."""


async def record(
    runtime: Runtime,
    subject: CustomResource,
    reason: str,
    message: str,
    *,
    action: str = "",
    warning: bool = False,
) -> None:
    """Create an Event about an object after a moment. Never raises ApiError. `action` is what was done, the reason if it is empty."""
    body = _event(runtime, subject, reason, message, action or reason, warning=warning)
    await runtime.sleep(_DELAY_SECONDS)
    try:
        await runtime.cluster.create(EVENTS, subject.metadata.namespace, body)
    except ApiError as error:
        log.debug("event %s of %s not created: %s", reason, subject.metadata.key, error)


def _event(
    runtime: Runtime, subject: CustomResource, reason: str, message: str, action: str, *, warning: bool
) -> Json:
    """Return an Event, whose name sorts by time.

    Kubectl orders Events by whole seconds, and those of one second in the order of the list: by name.
    """
    meta, now = subject.metadata, runtime.utc_now()
    stamp, milliseconds = now.strftime("%Y-%m-%dT%H:%M:%SZ"), int(now.timestamp() * 1000)
    content = f"{meta.uid}/{action}/{reason}/{meta.resource_version}"
    component = f"flexinfer-{runtime.name}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{meta.name}.{milliseconds:012x}{hashlib.sha256(content.encode()).hexdigest()[:8]}",
            "namespace": meta.namespace,
        },
        "involvedObject": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": message,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": runtime.settings.identity,
        "action": action,
    }
