"""EndpointSlices refuse loopback addresses; serving a Model needs none."""

import json
from pathlib import Path

from benchmarks.instance import Instance
from flexinfer.local.instance import REAL
from tests.instance import until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "local" / "smollm2.yaml"


def test_serving_a_model_fails_no_endpoint_slice(tmp_path: Path) -> None:
    """No Event FailedToUpdateEndpointSlices on any object."""
    running = Instance(tmp_path, "--api", REAL, stub=False)
    try:
        running.kubectl("apply", "-f", str(EXAMPLE))
        running.until("smollm2", "condition=Ready", 120)
        until(lambda: "Ready" in reasons(running), 10, "the Event Ready exists")
        assert "FailedToUpdateEndpointSlices" not in reasons(running)
    finally:
        running.down()


def reasons(running: Instance) -> set[str]:
    """Return the reasons of all Events."""
    items = json.loads(running.kubectl("get", "events", "--all-namespaces", "-o", "json"))["items"]
    return {event["reason"] for event in items}
