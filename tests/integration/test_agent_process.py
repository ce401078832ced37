"""The agent as a process: the real bindings over the stub, a real nats-server, and the Node in the local API."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from flexinfer.api.labels import GPU_FREE_MEMORY_ANNOTATION, GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION
from flexinfer.events import codec
from flexinfer.events.events import GpusObserved
from flexinfer.runtime.nats import connection
from tests.apiserver import LocalApi
from tests.kubectl import Kubectl
from tests.nats import NatsServer, nats_server
from tests.nvml import GTX_980_TI, LOST, RTX_3090, Machine, Step
from tests.patience import patient

pytestmark = pytest.mark.integration

NODE = "telemetry"


class Telemetry:
    """What agents publish, as it arrives."""

    def __init__(self) -> None:
        self._samples: asyncio.Queue[GpusObserved] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        """Keep a sample."""
        event = codec.decode(message.data)
        if isinstance(event, GpusObserved):
            self._samples.put_nowait(event)

    async def until(self, condition: Callable[[GpusObserved], bool]) -> GpusObserved:
        """Return the next sample for which the condition holds."""
        async with asyncio.timeout(patient(30)):
            while True:
                sample = await self._samples.get()
                if condition(sample):
                    return sample


@contextlib.asynccontextmanager
async def telemetry(server: NatsServer) -> AsyncIterator[Telemetry]:
    """Listen to a server."""
    async with connection.connected("listener", server.url, "", "") as nats:
        listener = Telemetry()
        await nats.client.subscribe("flexinfer.gpu.>", cb=listener.take)
        await nats.client.flush()
        yield listener


@contextlib.contextmanager
def agent(environment: Mapping[str, str]) -> Iterator[None]:
    """Run an agent; it ends with 0 on SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", "flexinfer.agent"], env=environment)
    try:
        yield
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(patient(20)) == 0


def health(sample: GpusObserved) -> dict[str, bool]:
    """Return which devices are healthy."""
    return {device.uuid: device.healthy for device in sample.devices}


async def test_what_happens_to_a_card_is_published_and_written_on_the_node(
    tmp_path: Path, local_api: LocalApi, kubectl: Kubectl
) -> None:
    """An XID, a card that falls off the bus and comes back; the annotations are those of the healthy devices."""
    kubectl("create -f -", json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}))
    cards = (GTX_980_TI, RTX_3090)
    lost = Step((GTX_980_TI, msgspec.structs.replace(RTX_3090, handle=LOST)))
    steps = [Step(cards), Step(cards, xids=((1, 79),)), Step(cards), lost, lost, Step(cards)]
    async with nats_server(tmp_path) as server, telemetry(server) as listener:
        environment = Machine(tmp_path).play(steps) | {
            "FLEXINFER_NATS_URL": server.url,
            "FLEXINFER_NODE_NAME": NODE,
            "FLEXINFER_KUBECONFIG": str(local_api.kubeconfig),
        }
        with agent(environment):
            both = {GTX_980_TI.uuid: True, RTX_3090.uuid: True}
            first = await listener.until(lambda sample: health(sample) == both)
            broken = await listener.until(lambda sample: not all(health(sample).values()))
            whole = await listener.until(lambda sample: health(sample) == both)
            notes = await written(kubectl)
    assert first.node == NODE
    assert health(broken) == {GTX_980_TI.uuid: True, RTX_3090.uuid: False}
    assert [device.errors for device in whole.devices if device.uuid == RTX_3090.uuid] == [("XID 79",)]
    assert notes[GPU_FREE_MEMORY_ANNOTATION] == "24264"
    assert json.loads(notes[GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION]) == {
        GTX_980_TI.uuid: 6080,
        RTX_3090.uuid: 24264,
    }


async def written(kubectl: Kubectl) -> dict[str, str]:
    """Return the annotations of the Node once the agent has written them."""
    async with asyncio.timeout(patient(20)):
        while True:
            node = json.loads(await asyncio.to_thread(kubectl, f"get node {NODE} -o json"))
            notes: dict[str, str] = node["metadata"].get("annotations", {})
            if GPU_FREE_MEMORY_ANNOTATION in notes:
                return notes
