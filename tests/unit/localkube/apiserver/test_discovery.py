"""Discovery of the served resources, aggregated and unaggregated."""

from typing import Any

import msgspec
import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.discovery import Discovery
from localkube.apiserver.errors import ApiError
from localkube.apiserver.registry import Registry
from tests.unit.localkube.apiserver.test_tables import a_definition

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def document_at(discovery: Discovery, path: str, accept: str = "application/json") -> Any:
    """Return the decoded document at a path."""
    document = discovery.answer(path, accept)
    assert document is not None
    return msgspec.json.decode(document.body)


@pytest.fixture
def registry() -> Registry:
    """Return a registry of the built-in resources."""
    return builtin_registry()


@pytest.fixture
def discovery(registry: Registry) -> Discovery:
    """Return discovery of the built-in resources."""
    return Discovery(registry)


def test_the_unaggregated_form_lists_versions_groups_and_resources(discovery: Discovery) -> None:
    """For clients without aggregated discovery."""
    assert document_at(discovery, "/api")["versions"] == ["v1"]
    groups = {group["name"] for group in document_at(discovery, "/apis")["groups"]}
    assert {"batch", "coordination.k8s.io", "apiextensions.k8s.io", "storage.k8s.io"} <= groups
    names = {entry["name"] for entry in document_at(discovery, "/api/v1")["resources"]}
    assert {"pods", "pods/log", "pods/status", "namespaces", "events"} <= names


def test_the_aggregated_form_lists_everything_in_one_document(discovery: Discovery) -> None:
    """Its Content-Type says so, else kubectl takes it for the unaggregated form."""
    document = discovery.answer("/api", AGGREGATED)
    assert document is not None
    assert document.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    content = document_at(discovery, "/api", AGGREGATED)
    (version,) = content["items"][0]["versions"]
    pods = next(entry for entry in version["resources"] if entry["resource"] == "pods")
    assert (pods["scope"], pods["singularResource"], pods["shortNames"]) == ("Namespaced", "pod", ["po"])
    assert {entry["subresource"] for entry in pods["subresources"]} >= {"log", "status"}


def test_documents_follow_the_installed_definitions(registry: Registry, discovery: Discovery) -> None:
    """The cache is invalidated when a definition is installed or removed."""
    before = document_at(discovery, "/apis", AGGREGATED)
    registry.install(a_definition())
    groups = [item["metadata"]["name"] for item in document_at(discovery, "/apis", AGGREGATED)["items"]]
    assert "example.com" in groups
    assert document_at(discovery, "/apis/example.com/v1")["resources"][0]["kind"] == "Thing"
    registry.remove(a_definition())
    assert document_at(discovery, "/apis", AGGREGATED) == before


def test_the_index_of_openapi_names_each_document_by_its_hash(
    registry: Registry, discovery: Discovery
) -> None:
    """So that a client can cache the documents by URL."""
    paths = document_at(discovery, "/openapi/v3")["paths"]
    assert {"api/v1", "apis/batch/v1"} <= set(paths)
    address, _, tag = paths["apis/batch/v1"]["serverRelativeURL"].partition("?hash=")
    document = discovery.answer(address, "")
    assert document is not None
    assert document.etag == f'"{tag}"'
    assert "/apis/batch/v1/jobs" in document_at(discovery, address)["paths"]


@pytest.mark.parametrize("path", ["/apis/none", "/apis/batch/v9", "/openapi/v3/apis/none/v1", "/api/v2"])
def test_an_unserved_group_or_version_is_404(discovery: Discovery, path: str) -> None:
    """As an ApiError, which becomes a Status."""
    with pytest.raises(ApiError) as refused:
        discovery.answer(path, "")
    assert refused.value.code == 404


@pytest.mark.parametrize("path", ["/metrics", "/", "/logs"])
def test_other_paths_are_no_discovery_paths(discovery: Discovery, path: str) -> None:
    """The HTTP handler answers them with a 404."""
    assert discovery.answer(path, "") is None
