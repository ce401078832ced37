"""Row 6: apply -> Ready through all components, compared with one process that makes the same writes.

On the local API and on a real one. Both have their own API server and node; the components of the peer's
instance are stopped. They alternate, Model by Model. The time of the engine, from the start of its process to
its readiness, is subtracted from both.
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
APIS = ("local", "real")
GOAL = 2.0
_PAUSE = 1.5


async def of_flexinfer(running: Instance, cluster: KubernetesClient, name: str) -> float:
    """Return the seconds of a Model from its POST to Ready, without the time of the engine."""
    before = len(running.stubs())
    version = (await cluster.list(MODELS)).version
    began = time.monotonic()
    await cluster.create(MODELS, NAMESPACE, model_of(name))
    async with asyncio.timeout(60):
        async for change in cluster.watch(MODELS, version):
            model = change.object
            if model is not None and model.metadata.name == name and model.is_true(conditions.READY):
                break
    return time.monotonic() - began - _engine(running, before)


async def of_peer(running: Instance, other: Peer, name: str) -> float:
    """Return the seconds of the peer for the same."""
    before = len(running.stubs())
    began = time.monotonic()
    await other.converge(model_of(name))
    return time.monotonic() - began - _engine(running, before)


def _engine(running: Instance, before: int) -> float:
    times = dict(running.stubs(before))
    return times["ready"] - times["started"]


def model_of(name: str) -> dict[str, Any]:
    """Return a Model that the stub engine serves."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"},
    }


async def measure(running: Instance, alone: Instance, count: int) -> list[tuple[float, float, float]]:
    """Return the time of FlexInfer, of the peer and the load of the machine for each Model.

    A first Model of both is not counted.
    """
    samples = []
    async with connected(running.environment["KUBECONFIG"]) as cluster:
        await of_flexinfer(running, cluster, "sample")
        status: Mapping[str, Any] = (await cluster.get(PLAIN, NAMESPACE, "sample"))["status"]
        running.kubectl("delete", "mdl", "sample")
        async with peer(alone.environment["KUBECONFIG"], status) as other:
            await of_peer(alone, other, "sample")
            await other.clear("sample")
            for number in range(count):
                name = f"model-{number}"
                busy = load.rest(_PAUSE)
                flexinfer_seconds = await of_flexinfer(running, cluster, name)
                peer_seconds = await of_peer(alone, other, name)
                samples.append((flexinfer_seconds, peer_seconds, busy))
                await asyncio.to_thread(running.kubectl, "delete", "mdl", name)
                await other.clear(name)
    return samples


def main() -> None:
    """Print both medians and their ratio, on the local API and on a real one."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS_EACH
    for api in APIS:
        with instance("--api", api) as running, instance("--api", api) as alone:
            alone.end_services()
            samples = asyncio.run(measure(running, alone, count))
        print(f"{api} API: {load.summary([busy for _, _, busy in samples])}")
        _print(samples)


def _print(samples: list[tuple[float, float, float]]) -> None:
    flexinfer_seconds, peer_seconds = (
        statistics.median(sample[side] for sample in samples) for side in (0, 1)
    )
    ratio = statistics.median(of_flexinfer / of_peer for of_flexinfer, of_peer, _ in samples)
    print(
        f"  apply -> Ready without the time of the engine, {len(samples)} Models: median {flexinfer_seconds * 1000:.0f} ms "
        f"({min(f[0] for f in samples) * 1000:.0f} to {max(f[0] for f in samples) * 1000:.0f})"
    )
    print(f"  one process with the same writes and waits: median {peer_seconds * 1000:.0f} ms")
    print(
        f"  ratio, pair by pair: median {ratio:.2f}; goal {GOAL:.1f} ({'met' if ratio <= GOAL else 'missed'})"
    )


if __name__ == "__main__":
    main()
