"""The resource, object, subresource and verb of a request."""

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.errors import ApiError
from localkube.apiserver.routing import resolve, verb

REGISTRY = builtin_registry()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/v1/pods", ("pods", None, "", "")),
        ("/api/v1/namespaces", ("namespaces", None, "", "")),
        ("/api/v1/namespaces/a", ("namespaces", None, "a", "")),
        ("/api/v1/namespaces/a/status", ("namespaces", None, "a", "status")),
        ("/api/v1/namespaces/a/finalize", ("namespaces", None, "a", "finalize")),
        ("/api/v1/namespaces/a/pods", ("pods", "a", "", "")),
        ("/api/v1/namespaces/a/pods/p", ("pods", "a", "p", "")),
        ("/api/v1/namespaces/a/pods/p/log", ("pods", "a", "p", "log")),
        ("/apis/batch/v1/namespaces/a/jobs/j/status", ("jobs", "a", "j", "status")),
        ("/apis/batch/v1/namespaces/status/jobs/j", ("jobs", "status", "j", "")),
    ],
)
def test_a_path_names_resource_namespace_object_and_subresource(
    path: str, named: tuple[str, str | None, str, str]
) -> None:
    """Also where a namespace is itself the object."""
    actual = resolve(REGISTRY, path)
    assert actual is not None
    assert (actual.res.plural, actual.namespace, actual.name, actual.subresource) == named


@pytest.mark.parametrize("path", ["/api", "/apis/", "/api/v1", "/apis/batch", "/apis/batch/v1", "/version"])
def test_a_path_of_discovery_names_no_resource(path: str) -> None:
    """Discovery serves it."""
    assert resolve(REGISTRY, path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/gates",
        "/apis/apps/v1/deployments",
        "/api/v1/namespaces/a/nodes",
        "/api/v1/pods/p",
        "/api/v1/namespaces/a/pods/p/exec",
        "/api/v1/namespaces/a/pods/p/log/more",
    ],
)
def test_a_path_of_no_served_resource_is_404(path: str) -> None:
    """Before the body is read."""
    with pytest.raises(ApiError) as refused:
        resolve(REGISTRY, path)
    assert refused.value.code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/api/v1/namespaces/a/pods"),
        ("POST", "/api/v1/namespaces/a/pods/p"),
        ("POST", "/api/v1/pods"),
        ("DELETE", "/api/v1/namespaces/a/pods/p/status"),
        ("PUT", "/api/v1/namespaces/a/pods/p/log"),
        ("OPTIONS", "/api/v1/namespaces/a/pods/p"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405(method: str, path: str) -> None:
    """As a real API server says."""
    actual = resolve(REGISTRY, path)
    assert actual is not None
    with pytest.raises(ApiError) as refused:
        verb(method, actual)
    assert refused.value.code == 405
