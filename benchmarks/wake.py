"""Row 5: wake overhead = (engine's process started - request) + (first byte - engine ready), beside a bare spawn; on both worlds.

Each wake follows a rest of two seconds, in which the machine's load is taken, and a bare spawn of the same stub: so both sides are measured in the
same company. On the real API each also has a bare Pod beside it: the same stub in a Pod that is asked for by itself, from its POST to its process's
start: what API server, scheduler and node take by themselves. Measured elsewhere with random readiness: llama-swap 454 ms, KubeAI 1,883 ms, LLMKube 9,577 ms.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any

from benchmarks import load
from benchmarks.instance import Instance, bare_spawn, instance
from flexinfer.backends import llamacpp
from flexinfer.runtime.kubernetes.api import PODS
from flexinfer.runtime.kubernetes.client import connected

WAKES = 30
REST_SECONDS = 2.0
GOAL_MEDIAN, GOAL_P99 = 0.050, 0.120
GOAL_OVER_POD = 0.200
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "bare"},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [
            {"name": "engine", "image": llamacpp.BACKEND.images["cpu"], "args": ["--port", "8080"]},
        ],
    },
}
PEERS = {"llama-swap": 0.454, "KubeAI": 1.883, "LLMKube": 9.577}
_ENOUGH = 10


def main() -> None:
    """Wake one Model again and again and print the overhead."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else WAKES
    medians = {}
    for world in ("local", "real"):
        with instance("--api", world) as running:
            running.apply("sleeper", idle="1s")
            running.until("sleeper", "condition=Ready")
            samples = [_sample(running) for _ in range(count)]
            pods = [bare_pod(running) for _ in range(_ENOUGH)] if world == "real" else []
        print(f"{world} API: {load.told([busy for _, _, busy in samples])}")
        quiet = [sample for sample in samples if sample[2] <= load.QUIET]
        _tell("all", samples)
        if len(quiet) >= _ENOUGH and len(quiet) < len(samples):
            _tell("undisturbed", quiet)
        medians[world] = statistics.median(overhead for overhead, _, _ in samples)
    pod = statistics.median(pods)
    met = "met" if medians["real"] <= pod + GOAL_OVER_POD else "missed"
    print(f"real API: a bare Pod's spawn median {pod * 1000:.0f} ms; goal: that + 200 ms ({met})")
    print(f"ratio of the real API to the local one: {medians['real'] / medians['local']:.1f}")


def bare_pod(running: Instance) -> float:
    """Return how long the stub takes from a Pod's POST to its process's start, in seconds."""
    running.until("sleeper", "jsonpath={.status.phase}=Idle")
    before = len(running.stubs())

    async def post() -> float:
        async with connected(running.environment["KUBECONFIG"]) as cluster:
            asked = time.monotonic()
            await cluster.create(PODS, "default", POD)
            async with asyncio.timeout(30):
                while not (told := dict(running.stubs(before))):
                    await asyncio.sleep(0.002)
            await cluster.delete(PODS, "default", POD["metadata"]["name"], grace=0)
            return told["started"] - asked

    spawned = asyncio.run(post())
    running.kubectl("wait", "--for=delete", f"pod/{POD['metadata']['name']}", "--timeout=30s")
    return spawned


def _sample(running: Instance) -> tuple[float, float, float]:
    """Return the overhead of one wake, a bare spawn before it, both in seconds, and the machine's load."""
    running.until("sleeper", "jsonpath={.status.phase}=Idle")
    busy = load.rest(REST_SECONDS)
    spawn = bare_spawn(running.folder / "bare.log")
    before = len(running.stubs())
    asked = time.monotonic()
    running.ask("sleeper")
    answered = time.monotonic()
    told = dict(running.stubs(before))
    return (told["started"] - asked) + (answered - told["ready"]), spawn, busy


def spawn_background(median: float, peers: Iterable[str]) -> str:
    """Return which part of each peer's median this is."""
    return ", ".join(f"1/{PEERS[name] / median:.0f} of {name}" for name in peers)


def _tell(which: str, samples: list[tuple[float, float, float]]) -> None:
    overheads = sorted(overhead for overhead, _, _ in samples)
    spawn = statistics.median(bare for _, bare, _ in samples)
    median = statistics.median(overheads)
    p99 = overheads[min(len(overheads) - 1, int(len(overheads) * 0.99))]
    print(f"{which} {len(samples)} wakes: bare spawn median {spawn * 1000:.0f} ms")
    print(
        f"  wake overhead: median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, least {overheads[0] * 1000:.0f} ms"
    )
    print(f"  ratio to bare spawn {median / spawn:.1f}; {spawn_background(median, PEERS)}")
    print(
        f"  goal: bare spawn + 50 ms median ({'met' if median <= spawn + GOAL_MEDIAN else 'missed'}), "
        f"+ 120 ms p99 ({'met' if p99 <= spawn + GOAL_P99 else 'missed'})"
    )


if __name__ == "__main__":
    main()
