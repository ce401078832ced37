"""Which log is meant, and where it is to be had."""

from typing import Any

import pytest

from localkube.apiserver.errors import ApiError
from localkube.apiserver.pod_logs import LogLocation, container_of, log_location

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


def test_the_only_container_is_meant_when_none_is_named() -> None:
    """What most Pods have."""
    assert container_of(a_pod("engine"), "") == "engine"
    assert container_of(a_pod("engine", initial=("fetch",)), "fetch") == "fetch"


@pytest.mark.parametrize(
    ("pod", "asked", "words"),
    [
        (a_pod("a"), "b", "container b is not valid for pod p"),
        (a_pod("a", "b"), "", r"a container name must be specified for pod p, choose one of: \[a b\]"),
        (a_pod("a", initial=("i",)), "", r"choose one of: \[a\] or one of the init containers: \[i\]"),
    ],
)
def test_an_unclear_container_is_refused_with_the_choice(pod: dict[str, Any], asked: str, words: str) -> None:
    """In a real API server's words."""
    with pytest.raises(ApiError, match=words):
        container_of(pod, asked)


def test_the_node_says_where_it_serves_logs() -> None:
    """By its internal address and its endpoint's port."""
    assert log_location(a_pod("engine"), NODE, "engine") == LogLocation(
        "https://127.0.0.1:7403/containerLogs/a/p/engine", "local"
    )


@pytest.mark.parametrize("node", [None, {}, {"status": {"addresses": NODE["status"]["addresses"]}}])
def test_a_node_that_says_nothing_is_named(node: dict[str, Any] | None) -> None:
    """Gone, or not yet registered."""
    with pytest.raises(ApiError, match='node "local" has no InternalIP or kubelet port in its status yet'):
        log_location(a_pod("engine"), node, "engine")
