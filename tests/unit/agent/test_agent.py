"""The agent as a whole, in virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flexinfer.agent.__main__ import tell
from flexinfer.agent.vendors import Found, Vendor
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device
from flexinfer.runtime.kubernetes.api import UnavailableError
from flexinfer.runtime.settings import Settings, SettingsError
from tests.runtimes import ListBus, a_runtime

CARD = Device(uuid="GPU-1", total_mb=24576, free_mb=20000, architecture="sm_86")


class Nodes:
    """The one call of the API that an agent makes."""

    def __init__(self, *faults: Exception) -> None:
        self.patches: list[Any] = []
        self._faults = list(faults)

    async def merge(self, kind: object, namespace: str, name: str, body: Any) -> Any:
        """Keep a patch, or fail as scripted."""
        if self._faults:
            raise self._faults.pop(0)
        self.patches.append((name, body))
        return body


async def heard(
    found: Callable[[], Found], number: int, nodes: Nodes, steps: list[float]
) -> list[GpusObserved]:
    """Return what an agent tells until it has slept `number` times; its clock moves only while it sleeps."""
    bus, moment = ListBus(), 0.0

    async def sleep(seconds: float) -> None:
        nonlocal moment
        moment += seconds
        steps.append(seconds)
        if len(steps) == number:
            raise asyncio.CancelledError

    runtime = a_runtime(
        "agent",
        bus=bus,
        cluster=nodes,
        sleep=sleep,
        clock=lambda: moment,
        settings=Settings(node_name="a"),
    )
    with pytest.raises(asyncio.CancelledError):
        await tell(runtime, [Vendor(name="nvidia", probe=found)])
    return [event for event in bus.told if isinstance(event, GpusObserved)]


async def test_what_does_not_change_is_told_every_ten_seconds() -> None:
    """And looked at every second."""
    steps: list[float] = []
    told = await heard(lambda: Found(devices=(CARD,)), 21, Nodes(), steps)
    assert [event.sample for event in told] == [1, 2, 3]
    assert set(steps) == {1.0}
    assert {event.boot for event in told} == {told[0].boot}


async def test_a_change_is_told_with_the_next_look() -> None:
    """At most every second."""
    frees = iter([20000, 20000, 10000, 10000])
    told = await heard(
        lambda: Found(devices=(msgspec.structs.replace(CARD, free_mb=next(frees)),)), 4, Nodes(), []
    )
    assert [event.devices[0].free_mb for event in told] == [20000, 10000]


async def test_a_node_without_devices_is_told_and_looked_at_rarely() -> None:
    """Silence would not tell a node without devices from a dead agent."""
    steps: list[float] = []
    told = await heard(lambda: Found(message="no library"), 3, Nodes(), steps)
    assert [(event.devices, event.message) for event in told] == [((), "no library")] * 3
    assert steps == [10.0] * 3


async def test_the_node_is_annotated_once_and_again_after_an_outage() -> None:
    """An API server that is away costs a later note, nothing more."""
    nodes = Nodes(UnavailableError("away"))
    await heard(lambda: Found(devices=(CARD,)), 5, nodes, [])
    assert [name for name, _ in nodes.patches] == ["a"]


async def test_an_agent_needs_the_name_of_its_node() -> None:
    """The message names the variable."""
    with pytest.raises(SettingsError, match="FLEXINFER_NODE_NAME"):
        await tell(a_runtime("agent"), [])
