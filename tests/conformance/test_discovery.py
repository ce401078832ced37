"""Discovery and OpenAPI: what clients read before they do anything; what our API offers is told as a real one tells it."""

from typing import Any

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from tests.apiserver import ApiServer, Object

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
OFFERED = {(res.api_version, res.plural): res for res in builtin_registry().resources()}
SUBRESOURCES = {"status", "log", "binding", "finalize"}


def root(version: str) -> str:
    """Return where a version's resources are."""
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def test_the_legacy_index_names_the_core_version(server: ApiServer) -> None:
    """And nothing else."""
    found = server.get("/api")
    assert (found["kind"], found["versions"]) == ("APIVersions", ["v1"])


def test_every_group_that_is_offered_is_in_the_index(server: ApiServer) -> None:
    """With the version that is preferred."""
    groups = {group["name"]: group for group in server.get("/apis")["groups"]}
    version = {"groupVersion": "ai.flexinfer/v1alpha2", "version": "v1alpha2"}
    assert groups["ai.flexinfer"] == {
        "name": "ai.flexinfer",
        "versions": [version],
        "preferredVersion": version,
    }
    assert {version.partition("/")[0] for version, _ in OFFERED if "/" in version} <= set(groups)


def test_a_model_is_told_with_its_names_verbs_and_status(server: ApiServer) -> None:
    """The whole document."""
    assert server.get("/apis/ai.flexinfer/v1alpha2") == {
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
def test_a_built_in_kind_is_told_as_a_real_server_tells_it(server: ApiServer, plural: str) -> None:
    """Each kind of our registry, field by field: this is what the expectation is made from."""
    version, _, name = plural.partition(" ")
    res = OFFERED[version, name]
    listed = {one["name"]: one for one in server.get(root(version))["resources"]}
    told = listed[name]
    assert (told["kind"], told["namespaced"], told["singularName"]) == (
        res.kind,
        res.namespaced,
        res.singular,
    )
    assert (told["verbs"], tuple(told.get("shortNames", ()))) == (list(res.verbs), res.short_names)
    assert tuple(told.get("categories", ())) == res.categories
    assert {f"{name}/{part}" for part in res.subresources} <= set(listed)


def test_both_forms_of_discovery_tell_the_same(server: ApiServer) -> None:
    """The aggregated one in one answer, in the form that kubectl asks for."""
    reply = server.ask("GET", "/apis", accept=AGGREGATED)
    assert "as=APIGroupDiscoveryList" in reply.headers["content-type"].replace(" ", "")
    (item,) = [one for one in reply.json["items"] if one["metadata"]["name"] == "ai.flexinfer"]
    (version,) = item["versions"]
    (model,) = version["resources"]
    listed = server.get("/apis/ai.flexinfer/v1alpha2")["resources"][0]
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
    """Under /api."""
    (item,) = server.ask("GET", "/api", accept=AGGREGATED).json["items"]
    told = {one["resource"] for one in item["versions"][0]["resources"]}
    assert {plural for version, plural in OFFERED if version == "v1"} <= told


@pytest.mark.parametrize(
    "path", ["/apis/none.such", "/apis/none.such/v1", "/apis/ai.flexinfer/v9", "/api/v9"]
)
def test_what_is_not_offered_is_not_found(server: ApiServer, path: str) -> None:
    """By group, version or both."""
    assert server.ask("GET", path).code == 404


def test_the_version_is_that_of_a_kubernetes(server: ApiServer) -> None:
    """1.37."""
    told = server.get("/version")
    assert (told["major"], told["minor"], told["gitVersion"][:6]) == ("1", "37", "v1.37.")


def test_openapi_of_version_3_has_a_document_for_each_group(server: ApiServer) -> None:
    """Each by an address that changes with it."""
    paths = server.get("/openapi/v3")["paths"]
    assert {root(version).removeprefix("/") for version, _ in OFFERED} | {
        "apis/ai.flexinfer/v1alpha2"
    } <= set(paths)
    address = paths["apis/ai.flexinfer/v1alpha2"]["serverRelativeURL"]
    assert address.startswith("/openapi/v3/apis/ai.flexinfer/v1alpha2?hash=")
    assert server.ask("GET", address).code == 200


def test_openapi_holds_the_schema_of_a_model(server: ApiServer) -> None:
    """Types, prose, bounds, defaults and what kubectl finds a kind by."""
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
    assert spec["source"]["description"].startswith("Where the weights come from")


def test_openapi_tells_which_patches_and_options_a_path_takes(server: ApiServer) -> None:
    """From there kubectl knows that the server applies, runs dry and validates fields."""
    document: Object = server.get("/openapi/v3/apis/ai.flexinfer/v1alpha2")
    one = document["paths"]["/apis/ai.flexinfer/v1alpha2/namespaces/{namespace}/models/{name}"]
    patches: Any = one["patch"]["requestBody"]["content"]
    assert {"application/apply-patch+yaml", "application/merge-patch+json"} <= set(patches)
    asked = {parameter["name"] for parameter in one["patch"]["parameters"]}
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= asked


def test_openapi_of_version_2_comes_in_protobuf(server: ApiServer) -> None:
    """Kubectl asks for it before it applies a list."""
    reply = server.ask(
        "GET", "/openapi/v2", accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    )
    assert (reply.code, reply.headers["content-type"]) == (200, PROTOBUF)


def test_a_document_that_is_known_is_not_sent_again(server: ApiServer) -> None:
    """By its ETag."""
    first = server.ask("GET", "/apis", accept=AGGREGATED)
    again = server.ask("GET", "/apis", accept=AGGREGATED, headers={"If-None-Match": first.headers["etag"]})
    assert again.code == 304
