"""Row 6: apply -> Ready through all services, against one process that makes the same writes; on both worlds.

Both have an API server and a node of their own, of the same programs; the peer's instance has its services ended. They take turns, Model by Model.
The engine's own time, from its process's start to its readiness, is taken off both.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks import load
from benchmarks.instance import Instance, instance
from benchmarks.peer import NAMESPACE, PLAIN, Peer, peer
from flexinfer.api import conditions
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.runtime.kubernetes.api import MODELS
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected

MODELS_EACH = 15
WORLDS = ("local", "real")
GOAL = 2.0
_PAUSE = 1.5


async def ours(running: Instance, cluster: KubernetesClient, name: str) -> float:
    """Return how long a Model takes from its POST to Ready, less the engine's own time, in seconds."""
    before = len(running.stubs())
    version = (await cluster.list(MODELS)).version
    asked = time.monotonic()
    await cluster.create(MODELS, NAMESPACE, model_of(name))
    async with asyncio.timeout(60):
        async for change in cluster.watch(MODELS, version):
            found = change.object
            if found is not None and found.metadata.name == name and found.is_true(conditions.READY):
                break
    return time.monotonic() - asked - _engine(running, before)


async def theirs(running: Instance, other: Peer, name: str) -> float:
    """Return how long the peer takes for the same, in seconds."""
    before = len(running.stubs())
    asked = time.monotonic()
    await other.converge(model_of(name))
    return time.monotonic() - asked - _engine(running, before)


def _engine(running: Instance, before: int) -> float:
    told = dict(running.stubs(before))
    return told["ready"] - told["started"]


def model_of(name: str) -> dict[str, Any]:
    """Return a Model that the stub serves."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"},
    }


async def measure(running: Instance, alone: Instance, count: int) -> list[tuple[float, float, float]]:
    """Return our time, the peer's and the machine's load, Model by Model; the first of both is a rehearsal."""
    found = []
    async with connected(running.environment["KUBECONFIG"]) as cluster:
        await ours(running, cluster, "sample")
        status: Mapping[str, Any] = (await cluster.get(PLAIN, NAMESPACE, "sample"))["status"]
        running.kubectl("delete", "mdl", "sample")
        async with peer(alone.environment["KUBECONFIG"], status) as other:
            await theirs(alone, other, "sample")
            await other.clear("sample")
            for number in range(count):
                name = f"model-{number}"
                busy = load.rest(_PAUSE)
                mine = await ours(running, cluster, name)
                floor = await theirs(alone, other, name)
                found.append((mine, floor, busy))
                await asyncio.to_thread(running.kubectl, "delete", "mdl", name)
                await other.clear(name)
    return found


def main() -> None:
    """Print both medians and their ratio, on our own API and on a real one."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS_EACH
    for world in WORLDS:
        with instance("--api", world) as running, instance("--api", world) as alone:
            alone.end_services()
            found = asyncio.run(measure(running, alone, count))
        print(f"{world} API: {load.told([busy for _, _, busy in found])}")
        _tell(found)


def _tell(found: list[tuple[float, float, float]]) -> None:
    mine, floor = (statistics.median(sample[side] for sample in found) for side in (0, 1))
    ratio = statistics.median(ours / theirs for ours, theirs, _ in found)
    print(
        f"  apply -> Ready less the engine's own time, {len(found)} Models: median {mine * 1000:.0f} ms "
        f"({min(f[0] for f in found) * 1000:.0f} to {max(f[0] for f in found) * 1000:.0f})"
    )
    print(f"  one process with the same writes and waits: median {floor * 1000:.0f} ms")
    print(
        f"  ratio, pair by pair: median {ratio:.2f}; goal {GOAL:.1f} ({'met' if ratio <= GOAL else 'missed'})"
    )


if __name__ == "__main__":
    main()
