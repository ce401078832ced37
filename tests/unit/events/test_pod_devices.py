"""Which devices a Pod has got, as the node's device plugins name them in its status."""

from typing import Any

import msgspec

from flexinfer.api import kube
from flexinfer.api.metadata import Metadata
from flexinfer.events.workload import pod_facts


def a_pod(*allocated: dict[str, Any]) -> kube.Pod:
    """Return a Pod whose engine has these `allocatedResourcesStatus`, as the API server sends it."""
    status = {"containerStatuses": [{"name": "engine", "allocatedResourcesStatus": list(allocated)}]}
    return msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod)


def given(name: str, *ids: str) -> dict[str, Any]:
    """Return the devices of one resource."""
    return {"name": name, "resources": [{"resourceID": one, "health": "Healthy"} for one in ids]}


def test_the_gpus_of_a_pod_are_named_as_the_plugin_names_them() -> None:
    """Of both vendors; other resources are no GPUs."""
    pod = a_pod(given("nvidia.com/gpu", "GPU-a", "GPU-b"), given("example.com/nic", "eth1"))
    assert pod_facts(pod).devices == ("GPU-a", "GPU-b")
    assert pod_facts(a_pod(given("amd.com/gpu", "0000:03:00.0"))).devices == ("0000:03:00.0",)


def test_a_replica_of_a_device_that_is_shared_by_time_is_that_device() -> None:
    """NVIDIA's plugin appends `::` and a number."""
    assert pod_facts(a_pod(given("nvidia.com/gpu", "GPU-b::1", "GPU-b::0"))).devices == ("GPU-b",)


def test_a_pod_without_such_a_status_has_no_known_devices() -> None:
    """Kubernetes before 1.36, and every Pod that has not started yet."""
    assert pod_facts(a_pod()).devices == ()
    assert pod_facts(kube.Pod(metadata=Metadata(name="llama-0"))).devices == ()
