"""EndpointSlices refuse loopback addresses, and nothing of ours needs one: none is tried for a Model that was served."""

import json
from pathlib import Path

from benchmarks.instance import Instance
from flexinfer.local.instance import REAL

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "local" / "smollm2.yaml"


def test_serving_a_model_tries_no_endpoint_slice(tmp_path: Path) -> None:
    """No event of that kind, whatever it is about."""
    running = Instance(tmp_path, "--api", REAL, stub=False)
    try:
        running.kubectl("apply", "-f", str(EXAMPLE))
        running.until("smollm2", "condition=Ready", 120)
        events = json.loads(running.kubectl("get", "events", "--all-namespaces", "-o", "json"))["items"]
    finally:
        running.down()
    reasons = {event["reason"] for event in events}
    assert ("Ready" in reasons, "FailedToUpdateEndpointSlices" in reasons) == (True, False)
