"""Leases, which fence the components, Events, which users read, and logs of Pods."""

from tests.apiserver import ApiServer, Object
from tests.conformance.objects import EVENTS, LEASES, PODS, a_pod, names, path

MODELS_OF = "involvedObject.kind=Model"


def a_lease(holder: str, version: str = "") -> Object:
    """Return a Lease as a component writes it."""
    meta = {"name": "turn"} | ({"resourceVersion": version} if version else {})
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": 6,
        "renewTime": "2026-11-24T12:00:00.123456Z",
        "leaseTransitions": 1,
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


def an_event(space: str, name: str, reason: str, model: str = "smollm2") -> Object:
    """Return an Event about a Model."""
    about = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "name": model,
        "namespace": space,
        "uid": "11111111-0000-4000-8000-000000000000",
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": about,
        "reason": reason,
        "message": "the message",
        "type": "Normal",
    }


def test_a_lease_keeps_microseconds(server: ApiServer, space: str) -> None:
    """Leader election compares renewTime."""
    created = server.create(path(LEASES, space), a_lease("a"))
    assert created["spec"] == a_lease("a")["spec"]


def test_a_stale_renewal_of_a_lease_is_refused(server: ApiServer, space: str) -> None:
    """A holder that was paused meanwhile has lost it."""
    where = path(LEASES, space, "turn")
    version = server.create(path(LEASES, space), a_lease("a"))["metadata"]["resourceVersion"]
    assert server.ask("PUT", where, a_lease("b", version)).code == 200
    refused = server.ask("PUT", where, a_lease("a", version))
    assert (refused.code, refused.json["reason"]) == (409, "Conflict")
    assert server.get(where)["spec"]["holderIdentity"] == "b"


def test_events_are_selected_by_their_involved_object(server: ApiServer, space: str) -> None:
    """As `kubectl describe` does; they are listed by name."""
    server.create(path(EVENTS, space), an_event(space, "b", "Ready"))
    server.create(path(EVENTS, space), an_event(space, "a", "Loading"))
    server.create(path(EVENTS, space), an_event(space, "c", "Ready", model="another"))
    about = f"{MODELS_OF},involvedObject.name=smollm2,involvedObject.namespace={space}"
    assert names(server.get(path(EVENTS, space), fieldSelector=about)) == ["a", "b"]
    only = server.get(path(EVENTS, space), fieldSelector=f"{about},reason=Loading")
    assert names(only) == ["a"]


def test_an_event_about_another_namespace_is_refused(server: ApiServer, space: str) -> None:
    """An Event must be in the namespace of its object."""
    refused = server.ask("POST", path(EVENTS, space), an_event("default", "a", "Ready"))
    assert refused.code == 422
    assert "involvedObject.namespace" in refused.message


def test_a_pod_without_a_node_has_no_log_yet(server: ApiServer, space: str) -> None:
    """It is empty, and no error."""
    server.create(path(PODS, space), a_pod())
    response = server.ask("GET", path(PODS, space, "waits", "log"))
    assert (response.code, response.body) == (204, b"")


def test_the_log_of_a_pod_that_does_not_exist_is_not_found(server: ApiServer, space: str) -> None:
    """An unknown container of an existing Pod is a bad request."""
    missing = server.ask("GET", path(PODS, space, "unknown", "log"))
    assert (missing.code, missing.message) == (404, 'pods "unknown" not found')
    server.create(path(PODS, space), a_pod())
    other = server.ask("GET", path(PODS, space, "waits", "log"), container="other")
    assert (other.code, other.message) == (400, "container other is not valid for pod waits")
