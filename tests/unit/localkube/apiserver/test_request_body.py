"""Bodies against the paths they come by."""

import pytest

from localkube.apiserver import request_body
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import Patch
from localkube.apiserver.routing import Target, target
from tests.unit.localkube.apiserver.test_tables import a_definition

REGISTRY = builtin_registry()
REGISTRY.install(a_definition())


def aim(path: str) -> Target:
    """Return what a path names."""
    found = target(REGISTRY, path)
    assert found is not None
    return found


PODS = aim("/api/v1/namespaces/a/pods")
POD = aim("/api/v1/namespaces/a/pods/p")
THING = aim("/apis/example.com/v1/namespaces/a/things/t")


def test_a_body_takes_kind_and_namespace_from_its_path() -> None:
    """Built-ins may leave them out."""
    assert request_body.obj(b'{"metadata": {"name": "p"}}', "application/json", PODS) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a"},
    }


@pytest.mark.parametrize(
    ("body", "words"),
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
def test_a_body_that_is_not_what_its_path_says_is_400(body: bytes, words: str) -> None:
    """And says what is wrong."""
    with pytest.raises(ApiError, match=words) as refused:
        request_body.obj(body, "application/json", POD)
    assert refused.value.code == 400


def test_an_apply_may_be_yaml_and_its_times_stay_text() -> None:
    """A date that YAML would make an object of is a string of the API."""
    body = b"metadata: {annotations: {at: 2026-11-24T12:00:00Z}}\nspec: {on: 1}"
    patch = request_body.patch(body, "application/apply-patch+yaml", POD)
    assert patch.body["metadata"]["annotations"] == {"at": "2026-11-24T12:00:00Z"}


def test_each_language_of_patches_is_known_by_its_type() -> None:
    """The type decides, not the look of the body."""
    assert request_body.patch(b"[]", "application/json-patch+json", THING) == Patch("json", [])
    assert request_body.patch(b"{}", "application/merge-patch+json", THING) == Patch("merge", {})
    assert request_body.patch(b"{}", "application/strategic-merge-patch+json", POD) == Patch("strategic", {})


@pytest.mark.parametrize(
    "media", ["application/strategic-merge-patch+json", "text/plain", "application/json"]
)
def test_a_language_that_a_custom_resource_does_not_take_is_415(media: str) -> None:
    """Kubectl then knows to send a merge patch."""
    with pytest.raises(ApiError) as refused:
        request_body.patch(b"{}", media, THING)
    assert refused.value.code == 415


def test_protobuf_is_415() -> None:
    """Only JSON and YAML are spoken here."""
    with pytest.raises(ApiError) as refused:
        request_body.obj(b"k8s\x00", "application/vnd.kubernetes.protobuf", PODS)
    assert refused.value.code == 415
