"""Furnish: what a real API server holds before node and services start."""

import pytest

from flexinfer.local.kubernetes import furnish


@pytest.mark.parametrize(
    ("version", "kind", "namespace", "path"),
    [
        ("v1", "Namespace", "", "/api/v1/namespaces/x"),
        ("v1", "ServiceAccount", "s", "/api/v1/namespaces/s/serviceaccounts/x"),
        ("storage.k8s.io/v1", "StorageClass", "", "/apis/storage.k8s.io/v1/storageclasses/x"),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "s",
            "/apis/networking.k8s.io/v1/namespaces/s/networkpolicies/x",
        ),
    ],
)
def test_an_object_knows_its_path(version: str, kind: str, namespace: str, path: str) -> None:
    """By group, namespace and the English plural of its kind."""
    meta = {"name": "x"} | ({"namespace": namespace} if namespace else {})
    assert furnish.path_of({"apiVersion": version, "kind": kind, "metadata": meta}) == path


def test_a_namespace_comes_before_what_lies_in_it() -> None:
    """Or the first try would be refused."""
    seen: set[str] = set()
    for obj in furnish.objects():
        space = obj["metadata"].get("namespace")
        assert space is None or space in seen
        if obj["kind"] == "Namespace":
            seen.add(obj["metadata"]["name"])
