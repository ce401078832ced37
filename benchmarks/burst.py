"""Row 7: 1,000 Models at once, then every component is killed: time to all conditions, needless writes.

On the local API and on a real one. No node fits these Models, so no engine takes part: every owner writes its
condition, and nothing else happens. Writes after the kill are counted by the resourceVersions of all Models,
Services, Pods, Jobs and PVCs, before and after.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import load
from benchmarks.instance import PROCESSES, Instance, instance

MODELS = 1000
APIS = ("local", "real")
KINDS = "models,services,pods,jobs,persistentvolumeclaims"
CONDITIONS = 6
_QUIET_SECONDS, _SETTLE_SECONDS, _LONGEST_SECONDS = 3.0, 10.0, 600.0


def burst(running: Instance, count: int) -> float:
    """Create Models that fit no node; return the seconds until every owner has written its condition."""
    items = [
        {
            "apiVersion": "ai.flexinfer/v1alpha2",
            "kind": "Model",
            "metadata": {"name": f"model-{number:04}", "namespace": "default"},
            "spec": {
                "backend": "ollama",
                "source": "ollama://tiny",
                "gpu": {"vendor": "nvidia"},
                "cache": {"strategy": "None"},  # no PVC and no Job
            },
        }
        for number in range(count)
    ]
    created = time.monotonic()
    running.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    _until(lambda: complete_models(running) == count)
    return time.monotonic() - created


def complete_models(running: Instance) -> int:
    """Return how many Models have all conditions."""
    items: list[dict[str, Any]] = json.loads(running.kubectl("get", "mdl", "-o", "json"))["items"]
    return sum(len(item.get("status", {}).get("conditions", ())) == CONDITIONS for item in items)


def settle(running: Instance) -> None:
    """Wait until writes stop: the phase is written last."""
    previous: set[tuple[str, str, str]] = set()
    while (now := versions(running)) != previous:
        previous = now
        time.sleep(_QUIET_SECONDS)


def restart(running: Instance) -> tuple[float, int]:
    """Kill every component; return the seconds until all are ready, and how many resourceVersions differ."""
    before = versions(running)
    previous = {s["name"]: s["pid"] for s in running.services() if s["name"] in PROCESSES}
    killed = time.monotonic()
    for pid in previous.values():
        os.kill(int(pid), signal.SIGKILL)

    def back() -> bool:
        rows = [s for s in running.services() if s["name"] in PROCESSES]
        return all(s["health"] == "healthy" and s["pid"] != previous[s["name"]] for s in rows)

    _until(back)
    ready = time.monotonic() - killed
    time.sleep(_SETTLE_SECONDS)
    return ready, len(versions(running) ^ before)


def versions(running: Instance) -> set[tuple[str, str, str]]:
    """Return kind, name and resourceVersion of every object that FlexInfer writes."""
    items = json.loads(running.kubectl("get", KINDS, "-A", "-o", "json"))["items"]
    return {(i["kind"], i["metadata"]["name"], i["metadata"]["resourceVersion"]) for i in items}


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_LONGEST_SECONDS:.0f} s")
        time.sleep(0.2)


def main() -> None:
    """Print the results of the local and of a real API, and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    seconds: dict[str, float] = {}
    for api in APIS:
        busy = load.rest(2.0)
        with instance("--api", api) as running:
            seconds[api] = burst(running, count)
            settle(running)
            ready, written = restart(running)
        print(
            f"{api} API, other load {busy:.2f} of a core: {count} Models with all conditions after {seconds[api]:.1f} s"
        )
        goal = "met" if not written else "missed"
        print(
            f"  every component killed: all ready after {ready:.1f} s, {written} resourceVersions differ (goal 0: {goal})"
        )
    print(f"ratio of the real API to the local one: {seconds['real'] / seconds['local']:.2f}")


if __name__ == "__main__":
    main()
