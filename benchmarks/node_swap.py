"""Row 12 on a real node (`make bench-node`, root): the overhead of a swap, and what a bare Pod's own stop and start take of it.

Two Models of which one fits take turns on a card that does not exist (`benchmarks.node_card`), each asked while the other is idle; the engine is the stub
in a container. Before each swap the same stub, in a Pod of the same RuntimeClass with the same PVC, is started, answers and is deleted, without FlexInfer. What
it takes from its deletion to the end of its process and on until the API server has it no more, and from its POST until its process runs, is the share of
kubelet, container runtime, scheduler and API server: no swap that starts an engine once the last one is gone takes less. The overhead is, as on the local API,
all that is not the time from the process of the new engine to its readiness.
"""

import asyncio
import base64
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nats.aio.client import Client

from benchmarks import load, swap_steps
from benchmarks.node_card import NodeCard, driven
from benchmarks.node_stub import STUB, BarePod, Proxy, bare_pod, stubbed
from benchmarks.swap import MODELS, objects
from flexinfer.events.permissions import TAP
from flexinfer.runtime.kubernetes.client import connected
from flexinfer.runtime.nats.connection import connected as connected_to_nats
from tests.node.cards import bound_by_runtime_class, reported
from tests.node.files import RUNTIME_CLASS
from tests.node.layout import FIRST
from tests.node.product import SYSTEM, Product

SWAPS = 20
GOAL_SECONDS = 0.800
_MEMORY_MB, _REST_SECONDS, _CACHED_SECONDS, _END_SECONDS = 14_000, 1.0, 60.0, 30.0


class Swap(NamedTuple):
    """One swap, in seconds: its three parts as of `benchmarks.swap`, and those of the bare Pod before it."""

    told: float
    started: float
    answered: float
    steps: Mapping[str, float]
    bare_ended: float
    bare_gone: float
    bare_started: float
    busy: float

    @property
    def overhead(self) -> float:
        """What it took on top of the engine's own time to be ready."""
        return self.told + self.started + self.answered

    @property
    def bare(self) -> float:
        """What the bare Pod's stop and start took, without the time of its engine to be ready."""
        return self.bare_ended + self.bare_gone + self.bare_started


def main() -> None:
    """Swap two Models by requests, and print the overhead and its parts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SWAPS
    with stubbed() as product:
        folder = product.cluster.layout.home(FIRST) / "cards"
        volume = {"hostPath": {"path": str(folder), "type": "Directory"}}
        with (
            driven(folder, FIRST.name, _MEMORY_MB) as card,
            reported(product.cluster, volume, STUB),
            bound_by_runtime_class(product.cluster),
        ):
            try:
                _print(swaps(product, card, count))
            finally:
                product.remove_models()


def swaps(product: Product, card: NodeCard, count: int) -> Sequence[Swap]:
    """Swap so often."""
    product.kubectl("apply", "-f", "-", stdin=objects(MODELS, _MEMORY_MB))
    proxy = Proxy(product)
    for name in MODELS:
        product.until(name, "Cached", "Cached", _CACHED_SECONDS)
        proxy.ask(name)
    with tempfile.TemporaryDirectory() as folder, swap_steps.heard(_nats(product, Path(folder))) as steps:
        measured = [_swap(product, proxy, card, steps, number) for number in range(count)]
    return [swap for swap in measured if swap is not None]


def _swap(
    product: Product, proxy: Proxy, card: NodeCard, steps: swap_steps.Steps, number: int
) -> Swap | None:
    """Ask the Model that does not hold the card; None if that fails."""
    name, other = MODELS[number % 2], MODELS[(number + 1) % 2]
    busy = load.rest(_REST_SECONDS)
    bare = asyncio.run(_bare(product))
    leaves = product.engine(other)["metadata"]["uid"]
    answer = proxy.ask(name)
    if answer is None:
        return None
    ended, bare_ended = _ended(card, leaves), _ended(card, bare.uid)
    heard = {
        **steps.times(other, name, answer.requested),
        "engine ended": ended,
        "process started": answer.started,
        "engine ready": answer.ready,
        "answered": answer.first_byte,
    }
    return Swap(
        told=ended - answer.requested,
        started=answer.started - ended,
        answered=answer.answered,
        steps={step: at - answer.requested for step, at in heard.items()},
        bare_ended=bare_ended - bare.ending,
        bare_gone=bare.gone - bare_ended,
        bare_started=bare.start.spawned,
        busy=busy,
    )


async def _bare(product: Product) -> BarePod:
    async with connected(str(product.cluster.layout.kubeconfig())) as cluster:
        return await bare_pod(cluster, "models", grace=None, runtimeClassName=RUNTIME_CLASS)


def _ended(card: NodeCard, pod_uid: str) -> float:
    """Return when the engine of a Pod had ended, which the driver of the card may see a moment after others."""
    deadline = time.monotonic() + _END_SECONDS
    while pod_uid not in card.ended:
        if time.monotonic() > deadline:
            raise SystemExit(f"the engine of the Pod {pod_uid} was not seen to end")
        time.sleep(0.01)
    return card.ended[pod_uid]


def _nats(product: Product, folder: Path) -> swap_steps.Connected:
    """Return what connects to NATS of the cluster as the user who may only read."""
    secret = product.cluster.object("secret", f"flexinfer-nats-{TAP}", "-n", SYSTEM)["data"]
    for key in ("password", "ca.crt"):
        (folder / key).write_bytes(base64.b64decode(secret[key]))
    service = product.cluster.object("service", "flexinfer-nats", "-n", SYSTEM)
    url = f"tls://{service['spec']['clusterIP']}:4222"

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        files = (str(folder / "password"), str(folder / "ca.crt"))
        host = f"flexinfer-nats.{SYSTEM}.svc"
        async with connected_to_nats(TAP, url, TAP, *files, server_name=host) as connection:
            yield connection.client

    return connect


def _print(measured: Sequence[Swap]) -> None:
    if not measured:
        raise SystemExit("no request was answered")
    swap_steps.print_steps([swap.steps for swap in measured])
    print(load.summary([swap.busy for swap in measured]))
    print(f"{len(measured)} swaps, and as many bare Pods: milliseconds, minimum / median / maximum")
    parts = {
        "bare Pod: deletion -> process ended": [swap.bare_ended for swap in measured],
        "bare Pod: process ended -> Pod gone": [swap.bare_gone for swap in measured],
        "bare Pod: POST -> process runs": [swap.bare_started for swap in measured],
        "bare Pod in all": [swap.bare for swap in measured],
        "request -> process ended": [swap.told for swap in measured],
        "process ended -> next process runs": [swap.started for swap in measured],
        "engine ready -> first byte": [swap.answered for swap in measured],
        "overhead in all": [swap.overhead for swap in measured],
        "overhead on top of the bare Pod": [swap.overhead - swap.bare for swap in measured],
    }
    for name, values in parts.items():
        figures = " / ".join(f"{value * 1000:5.0f}" for value in _spread(values))
        print(f"  {name:36} {figures}")
    own = statistics.median(parts["overhead on top of the bare Pod"])
    met = "met" if own <= GOAL_SECONDS else "missed"
    print(f"goal: {GOAL_SECONDS * 1000:.0f} ms on top of the bare Pod's own stop and start ({met})")


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


if __name__ == "__main__":
    main()
