"""`flexinfer down` and `up` with a Model that is always wanted: it is Ready only while its engine runs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localkube.process_identity import Identity, alive
from tests.instance import BIN, Running, instance, until
from tests.patience import patient

pytestmark = pytest.mark.e2e
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "local" / "smollm2.yaml"


def read(running: Running, kind: str, name: str) -> dict[str, Any]:
    """Return an object; empty while the API server does not answer."""
    text = running.kubectl("get", kind, name, "-o", "json", "--request-timeout=5s", check=False)
    return json.loads(text) if text.startswith("{") else {}


def is_ready(running: Running) -> bool | None:
    """Return whether the Model says that it is Ready; None while the API server does not answer."""
    conditions = read(running, "mdl", "smollm2").get("status", {}).get("conditions")
    if conditions is None:
        return None
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def engine_runs(running: Running) -> bool:
    """Return whether the process of the Model's engine runs, by the Pod and by the kernel."""
    statuses = read(running, "pod", "smollm2-0").get("status", {}).get("containerStatuses") or [{}]
    pid, _, started = str(statuses[0].get("containerID", "")).removeprefix("process://").partition(".")
    return "running" in statuses[0].get("state", {}) and alive(Identity(int(pid), int(started)))


def test_a_model_is_not_ready_while_its_engine_only_loads_again(tmp_path: Path) -> None:
    """From the first answer of the API server on: what was stored before is what it reads then."""
    with instance(tmp_path / "state") as running:
        running.kubectl("apply", "-f", str(EXAMPLE))
        until(lambda: is_ready(running) is True, 60, "the Model is Ready")
        running.flexinfer("down")
        words = [str(BIN / "flexinfer"), "up", "--detach", "--state", str(running.state)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as starting:
            looks: list[bool] = []

            def loaded() -> bool:
                ready = is_ready(running)
                if ready is not None:
                    looks.append(ready)
                return ready is True

            until(loaded, 60, "the Model is Ready again")
            assert engine_runs(running)
            assert looks[0] is False
            starting.communicate(timeout=patient(90))
        assert starting.returncode == 0
        with running.client() as client:
            client.completions.create(model="smollm2", prompt="Hello", max_tokens=1)
