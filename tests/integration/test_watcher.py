"""The watcher on a real nats-server.

What readers observe, through restarts, wiped stores and a second watcher.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from flexinfer.api import conditions, kube
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model
from flexinfer.runtime.kubernetes.api import MODELS, PODS
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.runtime import Snapshot, Subscriptions
from flexinfer.runtime.settings import Settings
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from flexinfer.watcher.__main__ import main
from flexinfer.watcher.publisher import WATERMARK_SECONDS
from tests.builders import a_model
from tests.nats import NatsServer, nats_server
from tests.patience import patient
from tests.runtimes import a_runtime
from tests.unit.watcher.scripted import ScriptedCluster

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def watching(server: NatsServer, cluster: ScriptedCluster) -> AsyncIterator[asyncio.Event]:
    """Run a watcher; yields an event that is set once it is ready."""
    async with connection.connected("watcher", server.url, "", "") as nats:
        ready = asyncio.Event()
        runtime = a_runtime(
            "watcher",
            cluster=cluster,
            connection=nats,
            bus=NatsBus(nats),
            clock=time.monotonic,
            settings=Settings(nats_url=server.url),
            set_ready=lambda up: ready.set() if up else ready.clear(),
        )
        work = asyncio.create_task(main(runtime))
        try:
            yield ready
            assert not work.done(), work.exception()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


class Reader:
    """A component's observed state."""

    def __init__(self) -> None:
        self.state = ObservedState()
        self.snapshots = 0
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def reading(self, server: NatsServer) -> AsyncIterator["Reader"]:
        """Apply what the bus delivers."""
        async with connection.connected("placer", server.url, "", "") as nats:
            work = asyncio.create_task(self._read(NatsBus(nats)))
            try:
                yield self
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _read(self, bus: NatsBus) -> None:
        async for delivery in bus.deliveries(Subscriptions()):
            if isinstance(delivery, Snapshot):
                self.state, self.snapshots = (
                    apply_events(ObservedState(), delivery.observations),
                    self.snapshots + 1,
                )
            elif isinstance(delivery, Observation):
                self.state = apply_events(self.state, [delivery])
            self._changed.set()

    async def until(self, true: Callable[[ObservedState], object], within: float = patient(15.0)) -> float:
        """Wait until something is true of the state; returns the seconds that it took."""
        started_at = time.monotonic()
        async with asyncio.timeout(within):
            while not true(self.state):
                self._changed.clear()
                await self._changed.wait()
        return time.monotonic() - started_at


def accepted(state: ObservedState, name: str = "llama") -> bool:
    """Return whether a reader has observed that a Model was accepted."""
    model = state.models.get(f"default/{name}")
    return model is not None and model.is_true(conditions.ACCEPTED)


async def test_readers_observe_a_model_its_conditions_and_its_pod(tmp_path: Path) -> None:
    """From the API server to the observed state, by a real stream."""
    cluster = ScriptedCluster()
    async with nats_server(tmp_path) as server, watching(server, cluster), Reader().reading(server) as reader:
        cluster.put(MODELS, a_model(placement=None))
        await reader.until(accepted)
        labels = {MODEL_UID_LABEL: "uid-llama"}
        pod = kube.Pod(
            metadata=Metadata(name="llama-0", namespace="default", labels=labels),
            status=kube.PodStatus(phase="Running", pod_ip="127.0.0.9"),
        )
        cluster.put(PODS, pod)
        await reader.until(lambda state: state.workload(state.models["default/llama"]).pods[:1])
        assert reader.state.workloads["default/llama"].pods[0].ip == "127.0.0.9"
        cluster.drop(MODELS, "default/llama")
        await reader.until(lambda state: not state.models)


@pytest.mark.parametrize("wiped", [False, True], ids=["restarted", "wiped"])
async def test_nothing_is_lost_when_the_nats_server_was_killed(tmp_path: Path, *, wiped: bool) -> None:
    """With its store or without; what changed meanwhile is published."""
    cluster = ScriptedCluster()
    async with nats_server(tmp_path) as server, watching(server, cluster), Reader().reading(server) as reader:
        cluster.put(MODELS, a_model(placement=None))
        await reader.until(accepted)
        await server.stop()
        cluster.put(MODELS, a_model("second", placement=None))
        if wiped:
            shutil.rmtree(server.store)
        before = reader.snapshots
        await server.start()
        await reader.until(lambda state: reader.snapshots > before and len(state.models) == 2)
        assert set(reader.state.models) == {"default/llama", "default/second"}


async def test_a_store_that_was_rolled_back_is_brought_forward(tmp_path: Path) -> None:
    """As after a restored volume: readers must not keep an older state."""
    cluster = ScriptedCluster()
    async with nats_server(tmp_path) as server, watching(server, cluster), Reader().reading(server) as reader:
        cluster.put(MODELS, a_model(placement=None))
        await reader.until(accepted)
        await server.stop()
        shutil.copytree(server.store, tmp_path / "older")
        await server.start()
        cluster.put(MODELS, a_model("second", placement=None))
        await reader.until(lambda state: accepted(state, "second"))
        await server.stop()
        shutil.rmtree(server.store)
        shutil.move(tmp_path / "older", server.store)
        before = reader.snapshots
        await server.start()
        await reader.until(lambda state: reader.snapshots > before and accepted(state, "second"))


async def test_what_was_deleted_while_no_watcher_ran_is_published_at_start(tmp_path: Path) -> None:
    """The comparison is with the stream."""
    cluster = ScriptedCluster()
    async with nats_server(tmp_path) as server, Reader().reading(server) as reader:
        async with watching(server, cluster) as ready:
            cluster.put(MODELS, a_model(placement=None))
            await asyncio.wait_for(ready.wait(), patient(10))
            await reader.until(accepted)
        cluster.drop(MODELS, "default/llama")
        async with watching(server, cluster):
            await reader.until(lambda state: not state.models)


async def test_two_watchers_publish_nothing_wrong(tmp_path: Path) -> None:
    """A late or second writer is refused, reads back and publishes the difference."""
    cluster = ScriptedCluster()
    async with (
        nats_server(tmp_path) as server,
        watching(server, cluster),
        watching(server, cluster),
        Reader().reading(server) as reader,
    ):
        for number in range(20):
            model = a_model(f"m{number}", placement=None)
            cluster.put(MODELS, model)
        await reader.until(lambda state: all(accepted(state, f"m{number}") for number in range(20)))
        held = {key: model.metadata.version for key, model in cluster.objects["models"].items()}
        await reader.until(lambda state: {k: m.metadata.version for k, m in state.models.items()} == held)


async def test_a_change_reaches_a_reader_quickly(tmp_path: Path) -> None:
    """Every cold start waits for it: it is published at once, and not with the next watermark (`publisher`, 5 s)."""
    cluster = ScriptedCluster()
    async with nats_server(tmp_path) as server, watching(server, cluster), Reader().reading(server) as reader:
        cluster.put(MODELS, a_model(placement=None))
        await reader.until(lambda state: accepted(state) and state.models["default/llama"].status.phase)
        took = []
        for number in range(20):
            model: Model = cluster.objects["models"]["default/llama"]
            meta = msgspec.structs.replace(model.metadata, labels={"n": str(number)})
            cluster.put(MODELS, msgspec.structs.replace(model, metadata=meta))
            took.append(
                await reader.until(
                    lambda state, n=str(number): state.models["default/llama"].metadata.labels.get("n") == n  # type: ignore[misc]
                )
            )
        assert sorted(took)[10] < WATERMARK_SECONDS / 2, took


async def test_a_stream_that_is_deleted_while_the_watcher_runs_is_created_again(tmp_path: Path) -> None:
    """No connection breaks; the next watermark shows it."""
    cluster = ScriptedCluster()
    async with nats_server(tmp_path) as server, watching(server, cluster), Reader().reading(server) as reader:
        cluster.put(MODELS, a_model(placement=None))
        await reader.until(accepted)
        before = reader.snapshots
        async with connection.connected("operator", server.url, "", "") as operator:
            await operator.api("STREAM.DELETE.FI_STATE")
        await reader.until(lambda state: reader.snapshots > before and accepted(state))
