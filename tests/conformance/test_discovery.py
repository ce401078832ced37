"""Discovery and OpenAPI: each kind of the local API is described as by a real API server."""

from typing import Any

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from tests.apiserver import ApiServer, Object

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
OFFERED = {(res.api_version, res.plural): res for res in builtin_registry().resources()}
SUBRESOURCES = {"status", "log", "binding", "finalize"}


def root(version: str) -> str:
    """Return the path of the resources of a version."""
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def test_the_legacy_index_names_the_core_version(server: ApiServer) -> None:
    """The only version."""
    index = server.get("/api")
    assert (index["kind"], index["versions"]) == ("APIVersions", ["v1"])


def test_every_served_group_is_in_the_index(server: ApiServer) -> None:
    """With its preferred version."""
    groups = {group["name"]: group for group in server.get("/apis")["groups"]}
    version = {"groupVersion": "ai.flexinfer/v1alpha2", "version": "v1alpha2"}
    assert groups["ai.flexinfer"] == {
        "name": "ai.flexinfer",
        "versions": [version],
        "preferredVersion": version,
    }
    assert {version.partition("/")[0] for version, _ in OFFERED if "/" in version} <= set(groups)


def test_a_model_is_listed_with_its_names_verbs_and_status(server: ApiServer) -> None:
    """The whole document, but for the other kinds of the group that are installed."""
    document = server.get("/apis/ai.flexinfer/v1alpha2")
    models = [resource for resource in document["resources"] if resource["kind"] == "Model"]
    assert document | {"resources": models} == {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "ai.flexinfer/v1alpha2",
        "resources": [
            {
                "name": "models",
                "singularName": "model",
                "namespaced": True,
                "kind": "Model",
                "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
                "shortNames": ["mdl"],
                "categories": ["ai"],
                "storageVersionHash": "ANdmwEbs/98=",
            },
            {
                "name": "models/status",
                "singularName": "",
                "namespaced": True,
                "kind": "Model",
                "verbs": ["get", "patch", "update"],
            },
        ],
    }


@pytest.mark.parametrize("plural", sorted(f"{version} {plural}" for version, plural in OFFERED))
def test_a_built_in_kind_is_listed_as_by_a_real_server(server: ApiServer, plural: str) -> None:
    """Each kind of the registry of localkube, field by field."""
    version, _, name = plural.partition(" ")
    res = OFFERED[version, name]
    listed = {one["name"]: one for one in server.get(root(version))["resources"]}
    resource = listed[name]
    assert (resource["kind"], resource["namespaced"], resource["singularName"]) == (
        res.kind,
        res.namespaced,
        res.singular,
    )
    assert (resource["verbs"], tuple(resource.get("shortNames", ()))) == (list(res.verbs), res.short_names)
    assert tuple(resource.get("categories", ())) == res.categories
    assert {f"{name}/{part}" for part in res.subresources} <= set(listed)


def test_aggregated_discovery_has_the_same_content(server: ApiServer) -> None:
    """In one response, with the content type that kubectl requests."""
    reply = server.ask("GET", "/apis", accept=AGGREGATED)
    assert "as=APIGroupDiscoveryList" in reply.headers["content-type"].replace(" ", "")
    (item,) = [one for one in reply.json["items"] if one["metadata"]["name"] == "ai.flexinfer"]
    (version,) = item["versions"]
    (model,) = [one for one in version["resources"] if one["resource"] == "models"]
    resources = server.get("/apis/ai.flexinfer/v1alpha2")["resources"]
    (listed,) = [one for one in resources if one["name"] == "models"]
    assert (version["version"], version["freshness"]) == ("v1alpha2", "Current")
    assert (model["resource"], model["scope"], model["singularResource"]) == ("models", "Namespaced", "model")
    assert (model["verbs"], model["shortNames"], model["categories"]) == (
        listed["verbs"],
        listed["shortNames"],
        listed["categories"],
    )
    assert [one["subresource"] for one in model["subresources"]] == ["status"]
    assert model["responseKind"] == {"group": "ai.flexinfer", "version": "v1alpha2", "kind": "Model"}


def test_the_core_group_is_aggregated_too(server: ApiServer) -> None:
    """At /api."""
    (item,) = server.ask("GET", "/api", accept=AGGREGATED).json["items"]
    plurals = {one["resource"] for one in item["versions"][0]["resources"]}
    assert {plural for version, plural in OFFERED if version == "v1"} <= plurals


@pytest.mark.parametrize(
    "path", ["/apis/none.such", "/apis/none.such/v1", "/apis/ai.flexinfer/v9", "/api/v9"]
)
def test_a_group_or_version_that_is_not_served_is_not_found(server: ApiServer, path: str) -> None:
    """Group, version or both."""
    assert server.ask("GET", path).code == 404


def test_the_version_is_that_of_a_kubernetes_release(server: ApiServer) -> None:
    """1.37."""
    info = server.get("/version")
    assert (info["major"], info["minor"], info["gitVersion"][:6]) == ("1", "37", "v1.37.")


def test_openapi_of_version_3_has_a_document_for_each_group(server: ApiServer) -> None:
    """At a URL with a hash of its content."""
    paths = server.get("/openapi/v3")["paths"]
    assert {root(version).removeprefix("/") for version, _ in OFFERED} | {
        "apis/ai.flexinfer/v1alpha2"
    } <= set(paths)
    address = paths["apis/ai.flexinfer/v1alpha2"]["serverRelativeURL"]
    assert address.startswith("/openapi/v3/apis/ai.flexinfer/v1alpha2?hash=")
    assert server.ask("GET", address).code == 200


def test_openapi_has_the_schema_of_a_model(server: ApiServer) -> None:
    """Types, descriptions, bounds, defaults and the extension by which kubectl finds a kind."""
    schemas = server.get("/openapi/v3/apis/ai.flexinfer/v1alpha2")["components"]["schemas"]
    model = schemas["flexinfer.ai.v1alpha2.Model"]
    spec = model["properties"]["spec"]["properties"]
    assert model["x-kubernetes-group-version-kind"] == [
        {"group": "ai.flexinfer", "kind": "Model", "version": "v1alpha2"}
    ]
    assert model["properties"]["metadata"]["allOf"][0]["$ref"].endswith("v1.ObjectMeta")
    assert (spec["gpu"]["properties"]["priority"]["default"], "ollama" in spec["backend"]["enum"]) == (
        100,
        True,
    )
    assert spec["source"]["description"].startswith("Source of the weights")


def test_openapi_lists_the_patch_types_and_parameters_of_a_path(server: ApiServer) -> None:
    """Kubectl reads there that the server supports apply, dry run and field validation."""
    document: Object = server.get("/openapi/v3/apis/ai.flexinfer/v1alpha2")
    one = document["paths"]["/apis/ai.flexinfer/v1alpha2/namespaces/{namespace}/models/{name}"]
    patches: Any = one["patch"]["requestBody"]["content"]
    assert {"application/apply-patch+yaml", "application/merge-patch+json"} <= set(patches)
    asked = {parameter["name"] for parameter in one["patch"]["parameters"]}
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= asked


def test_openapi_of_version_2_comes_in_protobuf(server: ApiServer) -> None:
    """Kubectl requests it before it applies a list."""
    reply = server.ask(
        "GET", "/openapi/v2", accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    )
    assert (reply.code, reply.headers["content-type"]) == (200, PROTOBUF)


def test_openapi_of_version_2_is_json_for_who_asks_for_nothing_else(server: ApiServer) -> None:
    """As `kubectl get --raw /openapi/v2` does."""
    assert server.get("/openapi/v2")["swagger"] == "2.0"


def test_a_cached_document_is_not_sent_again(server: ApiServer) -> None:
    """By its ETag."""
    first = server.ask("GET", "/apis", accept=AGGREGATED)
    again = server.ask("GET", "/apis", accept=AGGREGATED, headers={"If-None-Match": first.headers["etag"]})
    assert again.code == 304
