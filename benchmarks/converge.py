"""Row 6: apply -> Ready through all services, against one process that makes the same writes.

The peer writes what the services write, in their order, on the same API server, and starts the same stub on the same node; both take turns.
"""

import asyncio
import statistics
import sys
import time
from typing import Any

from benchmarks.instance import Instance, instance
from flexinfer.contracts import keys
from flexinfer.runtime.api import MODELS, ApiError
from flexinfer.runtime.cluster import ApiCluster, connected

MODELS_EACH = 10


def ours(running: Instance, name: str) -> float:
    """Return how long a Model takes from its POST to Ready, less the engine's own time, in seconds."""
    before = len(running.stubs())
    asked = time.monotonic()
    asyncio.run(_until_ready(running, name))
    done = time.monotonic()
    told = dict(running.stubs(before))
    running.kubectl("delete", "mdl", name)
    return done - asked - (told["ready"] - told["started"])


async def _until_ready(running: Instance, name: str) -> None:
    async with connected(running.environment["KUBECONFIG"]) as cluster:
        made = await cluster.create(MODELS, "default", _model(name))
        async for change in cluster.watch(MODELS, made.metadata.resource_version):
            model = change.object
            if model is not None and model.metadata.name == name and model.holds(keys.READY):
                return


def peer(running: Instance, name: str, writes: int) -> float:
    """Return how long one process needs for a POST and the same number of status writes, in seconds."""
    asked = time.monotonic()
    asyncio.run(_write(running, name, writes))
    done = time.monotonic()
    running.kubectl("delete", "configmap", name)
    return done - asked


async def _write(running: Instance, name: str, writes: int) -> None:
    from flexinfer.runtime.api import Kind  # noqa: PLC0415 -- the peer's own kind

    maps: Kind[Any] = Kind("v1", "ConfigMap", "configmaps", dict)
    async with connected(running.environment["KUBECONFIG"]) as cluster:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        await cluster.create(maps, "default", body)
        for number in range(writes):
            await _apply(cluster, maps, {**body, "data": {f"k{number}": "x" * 200}}, number)


async def _apply(cluster: ApiCluster, maps: Any, body: dict[str, Any], number: int) -> None:
    try:
        await cluster.apply(maps, "default", body, manager=f"peer-{number}")
    except ApiError as error:
        raise SystemExit(f"peer: {error}") from error


def _model(name: str) -> dict[str, Any]:
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.KIND,
        "metadata": {"name": name},
        "spec": {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"},
    }


def main() -> None:
    """Print both medians and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS_EACH
    with instance() as running:
        pairs = [(ours(running, f"ours-{n}"), peer(running, f"peer-{n}", 12)) for n in range(count)]
    mine, floor = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"apply -> Ready less the engine's own time: median {mine * 1000:.0f} ms")
    print(f"one process, a POST and 12 status writes: median {floor * 1000:.0f} ms")
    print(f"ratio {mine / floor:.1f}, goal 2.0 ({'met' if mine <= 2 * floor else 'missed'})")


if __name__ == "__main__":
    main()
