"""The agent as a whole, in virtual time."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flexinfer.agent.__main__ import LibraryLostError, publish_samples
from flexinfer.agent.vendors import ProbeResult, Vendor
from flexinfer.events.events import GpusObserved, SampleAwaited
from flexinfer.events.nodes import Device
from flexinfer.runtime.kubernetes.api import UnavailableError
from flexinfer.runtime.settings import Settings, SettingsError
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.runtimes import ListBus, a_runtime

CARD = Device(uuid="GPU-1", total_mb=24576, free_mb=20000, architecture="sm_86")


class Nodes:
    """The one call of the Kubernetes API that the agent makes."""

    def __init__(self, *faults: Exception) -> None:
        self.patches: list[Any] = []
        self.tries = 0
        self._faults = list(faults)

    async def merge(self, kind: object, namespace: str, name: str, body: Any) -> Any:
        """Keep the patch, or raise the next fault."""
        self.tries += 1
        if self._faults:
            raise self._faults.pop(0)
        self.patches.append((name, body))
        return body


async def published(
    probe: Callable[[], ProbeResult],
    number: int,
    nodes: Nodes,
    steps: list[float],
    pauses: Sequence[float] = (),
    *,
    lost: int = 0,
    hints: Collection[int] = (),
) -> list[GpusObserved]:
    """Return what an agent publishes until it has slept `number` times; NATS does not store the first `lost` events.

    `hints` are after how many of the pauses a hint comes that a sample is waited for. Its clock moves only while it waits, and while the probe is paused for as long as `pauses` say.
    """
    bus, now, remaining = ListBus(lost), 0.0, iter(pauses)

    def paused_probe() -> ProbeResult:
        nonlocal now
        result = probe()
        now += next(remaining, 0.0)
        return result

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        steps.append(seconds)
        if len(steps) in hints:
            bus.hinted.put_nowait(SampleAwaited(node="a"))
        if len(steps) == number:
            raise asyncio.CancelledError

    runtime = a_runtime(
        "agent",
        bus=bus,
        cluster=nodes,
        sleep=sleep,
        clock=lambda: now,
        settings=Settings(node_name="a"),
    )
    with pytest.raises(asyncio.CancelledError):
        await publish_samples(runtime, [Vendor(name="nvidia", probe=paused_probe)])
    return [event for event in bus.published if isinstance(event, GpusObserved)]


async def test_a_sample_without_a_change_is_published_every_ten_seconds() -> None:
    """And taken every second."""
    steps: list[float] = []
    samples = await published(lambda: ProbeResult(devices=(CARD,)), 21, Nodes(), steps)
    assert [event.sample for event in samples] == [1, 2, 3]
    assert set(steps) == {1.0}
    assert {event.boot for event in samples} == {samples[0].boot}


async def test_a_change_is_published_with_the_next_sample() -> None:
    """At most every second."""
    frees = iter([20000, 20000, 10000, 10000])
    samples = await published(
        lambda: ProbeResult(devices=(msgspec.structs.replace(CARD, free_mb=next(frees)),)), 4, Nodes(), []
    )
    assert [event.devices[0].free_mb for event in samples] == [20000, 10000]


async def test_a_hint_that_a_sample_is_waited_for_is_followed_at_once_and_ten_times_a_second() -> None:
    """The first of them are published although nothing has changed; after five seconds all is as before."""
    steps: list[float] = []
    samples = await published(lambda: ProbeResult(devices=(CARD,)), 56, Nodes(), steps, hints=(2,))
    assert steps[:2] == [1.0, 1.0]
    assert steps[2:52] == [0.1] * 50
    assert set(steps[53:]) == {1.0}
    assert [event.sample for event in samples] == [1, 2, 3, 4]


async def test_a_node_without_devices_is_published_and_sampled_rarely() -> None:
    """Without any sample, a node without devices would look like one whose agent is down."""
    steps: list[float] = []
    samples = await published(lambda: ProbeResult(message="no library"), 3, Nodes(), steps)
    assert [(event.devices, event.message) for event in samples] == [((), "no library")] * 3
    assert steps == [10.0] * 3


@pytest.mark.parametrize("devices", [(CARD,), ()], ids=["a card", "no card"])
async def test_a_sample_that_nats_has_not_stored_is_published_again_after_a_second(
    devices: tuple[Device, ...],
) -> None:
    """At the start of an installation the agent may be there before the stream: nothing waits ten seconds for it."""
    steps: list[float] = []
    samples = await published(lambda: ProbeResult(devices=devices), 4, Nodes(), steps, lost=2)
    assert [event.sample for event in samples][:3] == [1, 2, 3]
    assert steps[:2] == [1.0, 1.0]


async def test_the_node_is_labelled_once_and_after_an_outage() -> None:
    """An unavailable API server delays the labels, nothing more."""
    nodes = Nodes(UnavailableError("no answer"))
    await published(lambda: ProbeResult(devices=(CARD,)), 5, nodes, [])
    assert [name for name, _ in nodes.patches] == ["a"]


async def test_a_sample_says_how_old_it_is_when_it_is_published() -> None:
    """An agent that was stopped between the look and the message must not pass an old state off as a new one."""
    samples = await published(lambda: ProbeResult(devices=(CARD,)), 3, Nodes(), [], (0.25, 40.0, 0.5))
    assert [event.age_seconds for event in samples] == [0.25, 40.0]
    observations = [Observation(event, 100.0) for event in samples]
    assert apply_events(ObservedState(), observations[:1]).gpus["a"].at == 99.75
    assert apply_events(ObservedState(), observations).gpus["a"].at == 60.0


def test_an_age_below_zero_makes_no_sample_of_the_future() -> None:
    """Whatever a message says."""
    event = GpusObserved(node="a", boot="b", sample=1, age_seconds=-50.0)
    assert apply_events(ObservedState(), [Observation(event, 100.0)]).gpus["a"].at == 100.0


async def test_a_full_device_whose_memory_moves_a_little_costs_no_write_a_second() -> None:
    """2 MB of noise at 40 MB free, for ten minutes."""
    nodes, frees = Nodes(), itertools.cycle((40, 42, 38))
    await published(
        lambda: ProbeResult(devices=(msgspec.structs.replace(CARD, free_mb=next(frees)),)), 600, nodes, []
    )
    assert len(nodes.patches) == 1


async def test_memory_that_moves_all_the_time_is_written_once_a_minute() -> None:
    """As is a device that comes and goes."""
    nodes, frees = Nodes(), itertools.cycle((20000, 10000))
    await published(
        lambda: ProbeResult(devices=(msgspec.structs.replace(CARD, free_mb=next(frees)),)), 301, nodes, []
    )
    assert 4 <= len(nodes.patches) <= 6


async def test_a_node_that_cannot_be_written_is_tried_less_and_less_often() -> None:
    """Ten minutes of an API server that refuses."""
    nodes = Nodes(*(UnavailableError("no answer") for _ in range(1000)))
    await published(lambda: ProbeResult(devices=(CARD,)), 600, nodes, [])
    assert nodes.tries < 20


async def test_devices_that_are_gone_are_taken_off_the_node() -> None:
    """Their labels with them."""
    nodes, probes = Nodes(), itertools.chain([(CARD,)], itertools.repeat(()))
    await published(lambda: ProbeResult(devices=next(probes)), 12, nodes, [])
    [_, (_, last)] = nodes.patches
    assert last["metadata"]["labels"]["flexinfer.ai/gpu.count"] == "0"


async def test_an_agent_needs_the_name_of_its_node() -> None:
    """The message names the variable."""
    with pytest.raises(SettingsError, match="FLEXINFER_NODE_NAME"):
        await publish_samples(a_runtime("agent"), [])


async def test_an_agent_whose_library_fails_for_a_minute_starts_again() -> None:
    """Its devices are unhealthy until then, not gone: a container gets its access to them back by a restart alone (reliability G9)."""
    probes = itertools.chain(
        [ProbeResult(devices=(CARD,))],
        itertools.repeat(ProbeResult(message="NVML: Unknown Error", broken=True)),
    )
    steps: list[float] = []
    with pytest.raises(LibraryLostError, match="60s: NVML: Unknown Error"):
        await published(lambda: next(probes), 100, Nodes(), steps)
    assert sum(steps) == 60.0


async def test_an_agent_whose_library_never_answered_goes_on() -> None:
    """Starting again would not help, and the node would seem to have no agent."""
    samples = await published(
        lambda: ProbeResult(message="NVML: Unknown Error", broken=True), 20, Nodes(), []
    )
    assert {event.message for event in samples} == {"NVML: Unknown Error"}


OF_OTHERS = (
    "flexinfer.runtime.controller",
    "flexinfer.runtime.control_loop",
    "flexinfer.state.apply",
    "uvloop",
    "yaml",
)
PROGRAM = """
import asyncio, sys
from flexinfer.agent.__main__ import RUNNABLE
from flexinfer.runtime import process
from flexinfer.runtime.kubernetes import kubeconfig
async def serve(runnables, settings):
    kubeconfig.access(settings.kubeconfig)
    print([name for name in sys.argv[1:] if name in sys.modules])
process._serve = serve
process.run_all([RUNNABLE])
"""


def test_its_process_has_nothing_of_what_decides_nor_a_faster_loop_nor_yaml(tmp_path: Path) -> None:
    """One runs on every node, and does little: each of these takes memory there. The kubeconfigs of `flexinfer up` are JSON."""
    config = {
        "clusters": [{"name": "one", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "one", "user": {}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }
    path = tmp_path / "kubeconfig"
    path.write_bytes(msgspec.json.encode(config))
    environment = os.environ | {"FLEXINFER_KUBECONFIG": str(path), "FLEXINFER_NODE_NAME": "one"}
    present = subprocess.check_output([sys.executable, "-c", PROGRAM, *OF_OTHERS], env=environment, text=True)
    assert present == "[]\n"
