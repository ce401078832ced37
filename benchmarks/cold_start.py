"""Row 5: cold start overhead = (engine process started - request) + (response - engine ready).

Compared with a bare spawn, on the local API and on a real one. Before each cold start the load of the machine
is measured for two seconds and the same stub is spawned, so both are measured under the same load. On the
real API bare Pods are measured too: the same stub in a Pod without FlexInfer, from its POST to the start of
its process, which is the time of API server, scheduler and node. Measured elsewhere with random readiness:
llama-swap 454 ms, KubeAI 1,883 ms, LLMKube 9,577 ms.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any

from benchmarks import load
from benchmarks.instance import STOPPED, Instance, bare_spawn, instance
from flexinfer.backends import llamacpp
from flexinfer.runtime.kubernetes.api import PODS
from flexinfer.runtime.kubernetes.client import connected

COLD_STARTS = 30
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
_FEWEST_SAMPLES = 10


def main() -> None:
    """Start one Model repeatedly by a request and print the overhead."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COLD_STARTS
    medians = {}
    for api in ("local", "real"):
        with instance("--api", api) as running:
            running.apply("idle", idle="1s")
            running.until("idle", "condition=Ready")
            samples = [_sample(running) for _ in range(count)]
            pods = [bare_pod(running) for _ in range(_FEWEST_SAMPLES)] if api == "real" else []
        print(f"{api} API: {load.summary([busy for _, _, busy in samples])}")
        quiet = [sample for sample in samples if sample[2] <= load.QUIET]
        _print("all", samples)
        if len(quiet) >= _FEWEST_SAMPLES and len(quiet) < len(samples):
            _print("undisturbed", quiet)
        medians[api] = statistics.median(overhead for overhead, _, _ in samples)
    pod = statistics.median(pods)
    met = "met" if medians["real"] <= pod + GOAL_OVER_POD else "missed"
    print(f"real API: bare Pod: median {pod * 1000:.0f} ms; goal: that + 200 ms ({met})")
    print(f"ratio of the real API to the local one: {medians['real'] / medians['local']:.1f}")


def bare_pod(running: Instance) -> float:
    """Return the seconds from the POST of a Pod with the stub to the start of its process."""
    running.until("idle", STOPPED)
    before = len(running.stubs())

    async def post() -> float:
        async with connected(running.environment["KUBECONFIG"]) as cluster:
            requested = time.monotonic()
            await cluster.create(PODS, "default", POD)
            async with asyncio.timeout(30):
                while not (times := dict(running.stubs(before))):
                    await asyncio.sleep(0.002)
            await cluster.delete(PODS, "default", POD["metadata"]["name"], grace=0)
            return times["started"] - requested

    spawned = asyncio.run(post())
    running.kubectl("wait", "--for=delete", f"pod/{POD['metadata']['name']}", "--timeout=30s")
    return spawned


def _sample(running: Instance) -> tuple[float, float, float]:
    """Return the seconds of overhead of a cold start, those of a bare spawn before it, and the load."""
    running.until("idle", STOPPED)
    busy = load.rest(REST_SECONDS)
    spawn = bare_spawn(running.folder / "bare.log")
    before = len(running.stubs())
    requested = time.monotonic()
    running.ask("idle")
    answered = time.monotonic()
    times = dict(running.stubs(before))
    return (times["started"] - requested) + (answered - times["ready"]), spawn, busy


def compare_with_peers(median: float, peers: Iterable[str]) -> str:
    """Return the median as a fraction of each peer's."""
    return ", ".join(f"1/{PEERS[name] / median:.0f} of {name}" for name in peers)


def _print(which: str, samples: list[tuple[float, float, float]]) -> None:
    overheads = sorted(overhead for overhead, _, _ in samples)
    spawn = statistics.median(bare for _, bare, _ in samples)
    median = statistics.median(overheads)
    p99 = overheads[min(len(overheads) - 1, int(len(overheads) * 0.99))]
    print(f"{which} {len(samples)} cold starts: bare spawn median {spawn * 1000:.0f} ms")
    print(
        f"  cold start overhead: median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, least {overheads[0] * 1000:.0f} ms"
    )
    print(f"  ratio to bare spawn {median / spawn:.1f}; {compare_with_peers(median, PEERS)}")
    print(
        f"  goal: bare spawn + 50 ms median ({'met' if median <= spawn + GOAL_MEDIAN else 'missed'}), "
        f"+ 120 ms p99 ({'met' if p99 <= spawn + GOAL_P99 else 'missed'})"
    )


if __name__ == "__main__":
    main()
