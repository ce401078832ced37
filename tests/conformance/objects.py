"""Small objects for the suite, their paths, and what a component or a controller would write to them."""

from typing import Any

from tests.apiserver import MERGE, ApiServer, Object

MODELS, PODS, MAPS, CLAIMS, LEASES, EVENTS, JOBS = (
    ("/apis/ai.flexinfer/v1alpha2", "models"),
    ("/api/v1", "pods"),
    ("/api/v1", "configmaps"),
    ("/api/v1", "persistentvolumeclaims"),
    ("/apis/coordination.k8s.io/v1", "leases"),
    ("/api/v1", "events"),
    ("/apis/batch/v1", "jobs"),
)
NAMESPACES, NODES, VOLUMES = "/api/v1/namespaces", "/api/v1/nodes", "/api/v1/persistentvolumes"
FINALIZER = "ai.flexinfer/test"
GATE = "ai.flexinfer/turn-1"
FAR = "a-node-that-does-not-exist"


def path(kind: tuple[str, str], space: str, name: str = "", subresource: str = "") -> str:
    """Return the path of the objects of a kind in a namespace, of one of them, or of a subresource."""
    root, plural = kind
    return "/".join(part for part in (f"{root}/namespaces/{space}/{plural}", name, subresource) if part)


def a_model(name: str = "smollm2", meta: Object | None = None, **spec: Any) -> Object:
    """Return a minimal Model, with `meta` and `spec` merged into its metadata and spec."""
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": name} | (meta or {}),
        "spec": {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"} | spec,
    }


def a_map(name: str, meta: Object | None = None, **data: str) -> Object:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name} | (meta or {}), "data": data}


def a_pod(name: str = "waits", meta: Object | None = None, **spec: Any) -> Object:
    """Return a Pod with a scheduling gate."""
    containers = [{"name": "engine", "image": "example.com/engine:1", "args": ["--port", "80"]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name} | (meta or {}),
        "spec": {"schedulingGates": [{"name": GATE}], "containers": containers} | spec,
    }


def owned_by(owner: Object, **more: Any) -> Object:
    """Return metadata with an owner reference."""
    meta = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {"ownerReferences": [reference | more]}


def ready(reason: str = "Up") -> list[Object]:
    """Return the conditions of a Model that is ready."""
    condition = {"type": "Ready", "status": "True", "reason": reason, "message": "the engine answers"}
    return [condition | {"lastTransitionTime": "2026-11-24T12:00:00Z"}]


def set_status(server: ApiServer, space: str, name: str = "smollm2", **status: Any) -> None:
    """Write the status of a Model as a component does."""
    done = server.patch(path(MODELS, space, name, "status"), {"status": status}, MERGE)
    assert done.code == 200, done.message


def names(listing: Object) -> list[str]:
    """Return the names of the items of a list."""
    return [item["metadata"]["name"] for item in listing["items"]]


def managers(obj: Object) -> list[tuple[str, str, str]]:
    """Return the field managers of an object: name, operation and subresource, sorted."""
    entries = obj["metadata"].get("managedFields", ())
    return sorted((entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries)
