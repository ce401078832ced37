"""The container of a log request, and the kubelet's URL of its log."""

from typing import Any

import pytest

from localkube.apiserver.errors import ApiError
from localkube.apiserver.pod_logs import LogLocation, log_container, log_location

NODE = {
    "status": {
        "addresses": [
            {"type": "Hostname", "address": "here"},
            {"type": "InternalIP", "address": "127.0.0.1"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 7403}},
    }
}


def a_pod(*containers: str, initial: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a Pod with containers, on a node."""
    spec = {
        "nodeName": "local",
        "containers": [{"name": name} for name in containers],
        "initContainers": [{"name": name} for name in initial],
    }
    return {"metadata": {"name": "p", "namespace": "a"}, "spec": spec}


def test_the_only_container_is_the_default() -> None:
    """Init containers must be named."""
    assert log_container(a_pod("engine"), "") == "engine"
    assert log_container(a_pod("engine", initial=("fetch",)), "fetch") == "fetch"


@pytest.mark.parametrize(
    ("pod", "requested", "message"),
    [
        (a_pod("a"), "b", "container b is not valid for pod p"),
        (a_pod("a", "b"), "", r"a container name must be specified for pod p, choose one of: \[a b\]"),
        (a_pod("a", initial=("i",)), "", r"choose one of: \[a\] or one of the init containers: \[i\]"),
    ],
)
def test_an_ambiguous_container_is_refused(pod: dict[str, Any], requested: str, message: str) -> None:
    """With the message of a real API server, which lists the choices."""
    with pytest.raises(ApiError, match=message):
        log_container(pod, requested)


def test_the_location_is_the_kubelet_endpoint_of_the_node() -> None:
    """Its InternalIP and the port of its kubeletEndpoint."""
    assert log_location(a_pod("engine"), NODE, "engine") == LogLocation(
        "https://127.0.0.1:7403/containerLogs/a/p/engine", "local"
    )


@pytest.mark.parametrize("node", [None, {}, {"status": {"addresses": NODE["status"]["addresses"]}}])
def test_a_node_without_an_endpoint_is_an_error(node: dict[str, Any] | None) -> None:
    """It was deleted, or has not reported its status yet."""
    with pytest.raises(ApiError, match='node "local" has no InternalIP or kubelet port in its status yet'):
        log_location(a_pod("engine"), node, "engine")
