"""Admission of new objects by the state of their namespace, like the NamespaceLifecycle admission plugin."""

from localkube.apiserver.errors import ApiError, Cause, forbidden
from localkube.apiserver.resources import Object, Resource


def check_create(res: Resource, name: str, namespace: str | None, existing: Object | None) -> None:
    """Raise ApiError 404 when the namespace does not exist, 403 when it is being deleted."""
    if existing is None:
        details = {"name": namespace, "kind": "namespaces"}
        raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found', details)
    if "deletionTimestamp" in existing["metadata"]:
        message = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = Cause(
            "NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace"
        )
        raise forbidden(res, name, message, [cause])
