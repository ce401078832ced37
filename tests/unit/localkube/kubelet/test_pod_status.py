"""Status: a record in the words of the Pod API."""

from datetime import UTC, datetime

import pytest

from localkube.kubelet.checkpoint import ContainerRecord, PodRecord
from localkube.kubelet.client import Object
from localkube.kubelet.pod_status import of, phase_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
RUNNING: Object = {"running": {"startedAt": "2026-05-01T00:00:00Z"}}


def ended(code: int) -> Object:
    """Return the state of a container that ended."""
    return {"terminated": {"exitCode": code}}


def a_record(policy: str = "Always", **states: Object) -> PodRecord:
    """Return a record of a Pod with these containers."""
    containers = [{"name": name, "image": "i"} for name in states]
    pod = {
        "metadata": {"uid": "u", "name": "p", "namespace": "n"},
        "spec": {"restartPolicy": policy, "containers": containers},
    }
    record = PodRecord(pod=pod, address="127.64.0.1", started_at="2026-05-01T00:00:00Z", boot="b")
    record.containers = {name: ContainerRecord(state=state) for name, state in states.items()}
    return record


@pytest.mark.parametrize(
    ("policy", "states", "phase"),
    [
        pytest.param("Always", [{}], "Pending", id="nothing started"),
        pytest.param("Always", [RUNNING, {}], "Pending", id="one to come"),
        pytest.param("Always", [RUNNING, RUNNING], "Running", id="all run"),
        pytest.param("Always", [ended(0)], "Running", id="will be started again"),
        pytest.param("Never", [ended(0), ended(0)], "Succeeded", id="all done"),
        pytest.param("Never", [ended(0), ended(2)], "Failed", id="one failed"),
        pytest.param("Never", [ended(2), RUNNING], "Running", id="one still runs"),
        pytest.param("OnFailure", [ended(2)], "Running", id="will be tried again"),
        pytest.param("OnFailure", [ended(0)], "Succeeded", id="done on failure policy"),
    ],
)
def test_the_phase_follows_kubelets_rules(policy: str, states: list[Object], phase: str) -> None:
    """From containers' states and the restart policy."""
    record = a_record(policy, **{f"c{i}": state for i, state in enumerate(states)})
    assert phase_of(record) == phase


def test_a_pod_that_was_taken_down_is_over_whatever_its_policy() -> None:
    """So that owners and finalizers see an end."""
    assert phase_of(a_record(c=ended(143)), terminated=True) == "Failed"


def test_the_address_is_told_with_the_first_status() -> None:
    """Before anything answers there."""
    status = of(a_record(c=RUNNING), NOW)
    assert (status["podIP"], status["phase"]) == ("127.64.0.1", "Running")


def test_an_unready_container_is_named() -> None:
    """In the condition's message."""
    conditions = {c["type"]: c for c in of(a_record(c=RUNNING), NOW)["conditions"]}
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Ready"]["message"] == "containers with unready status: [c]"


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    """Writing the same again is no change."""
    record = a_record(c=RUNNING)
    record.pod["status"] = of(record, NOW)
    later = of(record, datetime(2026, 6, 1, tzinfo=UTC))
    assert later == record.pod["status"]


def test_allocated_devices_are_reported_by_their_ids() -> None:
    """By the container that asked for them, as kubelet reports those of a device plugin."""
    record = a_record(engine=RUNNING, sidecar=RUNNING)
    record.pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    record.device_ids = {"nvidia.com/gpu": ["GPU-a"]}
    engine, sidecar = of(record, NOW)["containerStatuses"]
    device = {"resourceID": "GPU-a", "health": "Healthy"}
    assert engine["allocatedResourcesStatus"] == [{"name": "nvidia.com/gpu", "resources": [device]}]
    assert "allocatedResourcesStatus" not in sidecar
