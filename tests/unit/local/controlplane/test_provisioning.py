"""Provisioning: what a real API server holds before node and services start."""

import pytest

from flexinfer.local.controlplane import provisioning


@pytest.mark.parametrize(
    ("version", "kind", "namespace", "path"),
    [
        ("v1", "Namespace", "", "/api/v1/namespaces"),
        ("v1", "ServiceAccount", "s", "/api/v1/serviceaccounts"),
        ("storage.k8s.io/v1", "StorageClass", "", "/apis/storage.k8s.io/v1/storageclasses"),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "s",
            "/apis/networking.k8s.io/v1/networkpolicies",
        ),
    ],
)
def test_an_object_knows_its_path(version: str, kind: str, namespace: str, path: str) -> None:
    """By group, namespace and the English plural of its kind."""
    meta = {"name": "x"} | ({"namespace": namespace} if namespace else {})
    found = provisioning.kind_of({"apiVersion": version, "kind": kind, "metadata": meta})
    assert (f"{found.root}/{found.plural}", found.namespaced) == (path, bool(namespace))


def test_a_namespace_comes_before_what_lies_in_it() -> None:
    """Or the first try would be refused."""
    seen: set[str] = set()
    for obj in provisioning.objects():
        space = obj["metadata"].get("namespace")
        assert space is None or space in seen
        if obj["kind"] == "Namespace":
            seen.add(obj["metadata"]["name"])
