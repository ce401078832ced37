"""Decoding of bodies, and checks against the path."""

import pytest

from localkube.apiserver import request_body
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Patch
from localkube.apiserver.routing import Target, resolve
from tests.unit.localkube.apiserver.test_tables import a_definition

REGISTRY = builtin_registry()
REGISTRY.install(a_definition())


def target_of(path: str) -> Target:
    """Return the target of a resource path."""
    resource_target = resolve(REGISTRY, path)
    assert resource_target is not None
    return resource_target


PODS = target_of("/api/v1/namespaces/a/pods")
POD = target_of("/api/v1/namespaces/a/pods/p")
THING = target_of("/apis/example.com/v1/namespaces/a/things/t")


def test_a_body_takes_kind_and_namespace_from_its_path() -> None:
    """Clients may omit them."""
    assert request_body.decode_object(b'{"metadata": {"name": "p"}}', "application/json", PODS) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a"},
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"kind": "Job"}', "Job in version"),
        (
            b'{"apiVersion": "v2"}',
            r"the API version in the data \(v2\) does not match the expected API version \(v1\)",
        ),
        (
            b'{"metadata": {"name": "q"}}',
            r"the name of the object \(q\) does not match the name on the URL \(p\)",
        ),
        (b'{"metadata": {"namespace": "b"}}', "the namespace of the provided object does not match"),
        (b"[]", "not an object"),
        (b"{", "json parse error"),
        (b"\xff", "json parse error"),
        (b"[" * 100_000, "json parse error"),
        (b'{"metadata": 3}', "metadata"),
    ],
)
def test_a_body_that_is_malformed_or_contradicts_its_path_is_400(body: bytes, message: str) -> None:
    """With the cause in the message."""
    with pytest.raises(ApiError, match=message) as refused:
        request_body.decode_object(body, "application/json", POD)
    assert refused.value.code == 400


def test_an_apply_may_be_yaml_and_its_timestamps_stay_strings() -> None:
    """YAML would parse them as dates."""
    body = b"metadata: {annotations: {at: 2026-11-24T12:00:00Z}}\nspec: {on: 1}"
    patch = request_body.decode_patch(body, "application/apply-patch+yaml", POD)
    assert patch.body["metadata"]["annotations"] == {"at": "2026-11-24T12:00:00Z"}


def test_the_content_type_names_the_patch_type() -> None:
    """Whatever the body looks like."""
    assert request_body.decode_patch(b"[]", "application/json-patch+json", THING) == Patch("json", [])
    assert request_body.decode_patch(b"{}", "application/merge-patch+json", THING) == Patch("merge", {})
    assert request_body.decode_patch(b"{}", "application/strategic-merge-patch+json", POD) == Patch(
        "strategic", {}
    )


@pytest.mark.parametrize(
    "media", ["application/strategic-merge-patch+json", "text/plain", "application/json"]
)
def test_a_patch_type_that_custom_resources_do_not_support_is_415(media: str) -> None:
    """Kubectl falls back to a merge patch then."""
    with pytest.raises(ApiError) as refused:
        request_body.decode_patch(b"{}", media, THING)
    assert refused.value.code == 415


def test_protobuf_of_other_kinds_is_415() -> None:
    """Only JSON and YAML are accepted."""
    with pytest.raises(ApiError) as refused:
        request_body.decode_object(b"k8s\x00", "application/vnd.kubernetes.protobuf", PODS)
    assert refused.value.code == 415
