"""Row 7: 1,000 Models at once, then every service killed: how soon all is said, and how little is written when nothing changed; on both worlds.

No node fits these Models, so no engine takes part: every owner has its verdict to write, and that is all. What is written after the kill is counted by
resourceVersions: those of all Models, Services, Pods, Jobs and claims, before and after.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import load
from benchmarks.instance import Instance, instance

MODELS = 1000
WORLDS = ("local", "real")
SERVICES = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher", "proxy", "agent")
KINDS = "models,services,pods,jobs,persistentvolumeclaims"
VERDICTS = 6
_CALM_SECONDS, _SETTLE_SECONDS, _LONGEST_SECONDS = 3.0, 10.0, 600.0


def burst(running: Instance, count: int) -> float:
    """Apply Models that fit nowhere; returns how long until every owner has said so, in seconds."""
    items = [
        {
            "apiVersion": "ai.flexinfer/v1alpha2",
            "kind": "Model",
            "metadata": {"name": f"model-{number:04}", "namespace": "default"},
            "spec": {"backend": "ollama", "source": "ollama://tiny", "gpu": {"vendor": "nvidia"}},
        }
        for number in range(count)
    ]
    asked = time.monotonic()
    running.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )
    _until(lambda: said(running) == count)
    return time.monotonic() - asked


def said(running: Instance) -> int:
    """Return how many Models have every verdict."""
    found: list[dict[str, Any]] = json.loads(running.kubectl("get", "mdl", "-o", "json"))["items"]
    return sum(len(item.get("status", {}).get("conditions", ())) == VERDICTS for item in found)


def settle(running: Instance) -> None:
    """Wait until nothing is written any more: the phase comes last."""
    former: set[tuple[str, str, str]] = set()
    while (now := versions(running)) != former:
        former = now
        time.sleep(_CALM_SECONDS)


def restart(running: Instance) -> tuple[float, int]:
    """Kill every service; returns how long until all are ready again, in seconds, and how many versions came or went."""
    before = versions(running)
    former = {s["name"]: s["pid"] for s in running.services() if s["name"] in SERVICES}
    killed = time.monotonic()
    for pid in former.values():
        os.kill(int(pid), signal.SIGKILL)

    def back() -> bool:
        rows = [s for s in running.services() if s["name"] in SERVICES]
        return all(s["health"] == "healthy" and s["pid"] != former[s["name"]] for s in rows)

    _until(back)
    ready = time.monotonic() - killed
    time.sleep(_SETTLE_SECONDS)
    return ready, len(versions(running) ^ before)


def versions(running: Instance) -> set[tuple[str, str, str]]:
    """Return kind, name and resourceVersion of everything that we write."""
    items = json.loads(running.kubectl("get", KINDS, "-A", "-o", "json"))["items"]
    return {(i["kind"], i["metadata"]["name"], i["metadata"]["resourceVersion"]) for i in items}


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {_LONGEST_SECONDS:.0f} s")
        time.sleep(0.2)


def main() -> None:
    """Print both worlds and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    seconds: dict[str, float] = {}
    for world in WORLDS:
        busy = load.rest(2.0)
        with instance("--api", world) as running:
            seconds[world] = burst(running, count)
            settle(running)
            ready, written = restart(running)
        print(
            f"{world} API, others used {busy:.2f} of a core: {count} Models said by every owner in {seconds[world]:.1f} s"
        )
        goal = "met" if not written else "missed"
        print(
            f"  every service killed: all ready {ready:.1f} s later, {written} versions of objects came or went (goal 0: {goal})"
        )
    print(f"ratio of the real API to the local one: {seconds['real'] / seconds['local']:.2f}")


if __name__ == "__main__":
    main()
