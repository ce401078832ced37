"""Discovery: what is offered, in both forms."""

from typing import Any

import msgspec
import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.discovery import Discovery
from localkube.apiserver.errors import ApiError
from localkube.apiserver.registry import Registry
from tests.unit.localkube.apiserver.test_tables import a_definition

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def told(discovery: Discovery, path: str, accept: str = "application/json") -> Any:
    """Return a document, decoded."""
    document = discovery.answer(path, accept)
    assert document is not None
    return msgspec.json.decode(document.body)


@pytest.fixture
def registry() -> Registry:
    """Return the built-ins."""
    return builtin_registry()


@pytest.fixture
def discovery(registry: Registry) -> Discovery:
    """Return discovery of the built-ins."""
    return Discovery(registry)


def test_the_old_form_lists_versions_groups_and_resources(discovery: Discovery) -> None:
    """For clients that know no other."""
    assert told(discovery, "/api")["versions"] == ["v1"]
    groups = {group["name"] for group in told(discovery, "/apis")["groups"]}
    assert {"batch", "coordination.k8s.io", "apiextensions.k8s.io", "storage.k8s.io"} <= groups
    names = {entry["name"] for entry in told(discovery, "/api/v1")["resources"]}
    assert {"pods", "pods/log", "pods/status", "namespaces", "events"} <= names


def test_the_aggregated_form_tells_all_at_once(discovery: Discovery) -> None:
    """And says its media type, else kubectl takes it for the old one."""
    document = discovery.answer("/api", AGGREGATED)
    assert document is not None
    assert document.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    content = told(discovery, "/api", AGGREGATED)
    (version,) = content["items"][0]["versions"]
    pods = next(entry for entry in version["resources"] if entry["resource"] == "pods")
    assert (pods["scope"], pods["singularResource"], pods["shortNames"]) == ("Namespaced", "pod", ["po"])
    assert {entry["subresource"] for entry in pods["subresources"]} >= {"log", "status"}


def test_a_definition_shows_at_once_and_goes_at_once(registry: Registry, discovery: Discovery) -> None:
    """Documents are kept, but not longer than they are true."""
    before = told(discovery, "/apis", AGGREGATED)
    registry.install(a_definition())
    groups = [item["metadata"]["name"] for item in told(discovery, "/apis", AGGREGATED)["items"]]
    assert "example.com" in groups
    assert told(discovery, "/apis/example.com/v1")["resources"][0]["kind"] == "Thing"
    registry.remove(a_definition())
    assert told(discovery, "/apis", AGGREGATED) == before


def test_the_index_of_openapi_names_each_document_by_its_hash(
    registry: Registry, discovery: Discovery
) -> None:
    """A client that has that hash asks no more."""
    paths = told(discovery, "/openapi/v3")["paths"]
    assert {"api/v1", "apis/batch/v1"} <= set(paths)
    address, _, tag = paths["apis/batch/v1"]["serverRelativeURL"].partition("?hash=")
    document = discovery.answer(address, "")
    assert document is not None
    assert document.etag == f'"{tag}"'
    assert "/apis/batch/v1/jobs" in told(discovery, address)["paths"]


@pytest.mark.parametrize("path", ["/apis/none", "/apis/batch/v9", "/openapi/v3/apis/none/v1", "/api/v2"])
def test_what_is_not_offered_is_404(discovery: Discovery, path: str) -> None:
    """With a Status, as for objects."""
    with pytest.raises(ApiError) as refused:
        discovery.answer(path, "")
    assert refused.value.code == 404


@pytest.mark.parametrize("path", ["/metrics", "/", "/logs"])
def test_other_paths_are_none_of_discoverys(discovery: Discovery, path: str) -> None:
    """The face says 404 for them."""
    assert discovery.answer(path, "") is None
