"""Days of a card that a random history seldom has: a start that never succeeds, a crash loop, a node that comes back as it was."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.groupversion import API_VERSION, GROUP, KIND, PLURAL, VERSION
from flexinfer.api.labels import MODEL_LABEL, TURN_LABEL
from localkube.apiserver.requests import Options
from tests.simulation.deadlines import SETTINGS
from tests.simulation.laws.requests import SERVED
from tests.simulation.loop import run
from tests.simulation.simulation import Simulation

UNKNOWN, DISPLAY_MB = "model_not_found", 300
LARGE_MB = 6000
"""Of which the device has room for one."""


def created(simulation: Simulation, *names: str, count: int = 1) -> None:
    """Create members of one group, of which one fits on a device at a time."""
    gpu = {"vendor": "nvidia", "shared": "g", "count": count, "vramEstimateMB": LARGE_MB * count}
    spec = {
        "backend": "llamacpp",
        "source": "pvc://models/x.gguf",
        "gpu": gpu,
        "serverless": {"idleTimeout": "10m", "coldStartTimeout": "5s"},
    }
    kind = simulation.named(GROUP, VERSION, PLURAL)
    for name in names:
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
        simulation.store.create(kind, "default", body, Options(manager="kubectl"))


async def asked(simulation: Simulation, name: str) -> str:
    """Send a request, once the proxy knows the Model, and return its outcome."""
    while (outcome := await simulation.proxies["proxy"].request(f"default/{name}", 0.1)) == UNKNOWN:
        await asyncio.sleep(0.1)
    return outcome


async def serves(simulation: Simulation, name: str) -> None:
    """Ask until a Model answers."""
    async with asyncio.timeout(200):
        while await asked(simulation, name) != SERVED:
            await asyncio.sleep(1)


def is_ready(simulation: Simulation, name: str) -> bool:
    """Return whether a Model serves."""
    return simulation.models()[f"default/{name}"].is_true(conditions.READY)


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Let virtual time pass until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.1)


def played(
    day: Callable[[Simulation], Awaitable[None]], before: Callable[[Simulation], None] = lambda _: None
) -> list[str]:
    """Play a day from the start of all components; returns what breaks a law. `before` is what happens before it."""

    async def main() -> list[str]:
        simulation = Simulation(1)
        before(simulation)
        simulation.start()
        await asyncio.sleep(3)
        await day(simulation)
        return simulation.checker.problems

    return run(main())


def turns_of(simulation: Simulation, name: str) -> set[str]:
    """Return the turns that a Model's engines were started in, seen from now on."""
    seen: set[str] = set()

    def written(change: Any) -> None:
        labels = change.new["metadata"].get("labels", {}) if change.new is not None else {}
        if change.group_resource[1] == "pods" and labels.get(MODEL_LABEL) == name and labels.get(TURN_LABEL):
            seen.add(labels[TURN_LABEL])

    simulation.store.observe(written)
    return seen


def test_a_model_that_cannot_start_gives_the_card_back_to_whom_it_made_leave() -> None:
    """One turn for a request, and no other until the next: the two are not swapped again and again (reliability G16)."""

    async def day(simulation: Simulation) -> None:
        simulation.machines.behaviour.never_ready = frozenset({"default/never"})
        created(simulation, "good")
        await until(lambda: is_ready(simulation, "good"), 60)
        created(simulation, "never")
        turns = turns_of(simulation, "never")
        assert await asked(simulation, "never") != SERVED
        await asyncio.sleep(2 * SETTINGS.loading_seconds)
        assert len(turns) == 1
        await serves(simulation, "good")
        await asyncio.sleep(300)
        assert is_ready(simulation, "good")
        assert len(turns) <= 1 + 1

    assert not played(day)


def test_an_engine_that_crashes_at_every_start_leaves_the_card() -> None:
    """However its kubelet restarts it, and whatever was reported of it (reliability G24)."""

    async def day(simulation: Simulation) -> None:
        created(simulation, "good")
        await until(lambda: is_ready(simulation, "good"), 60)
        behaviour = simulation.machines.behaviour
        simulation.machines.behaviour = msgspec.structs.replace(behaviour, dies=1.0, loads=0.1)
        created(simulation, "crashes")
        simulation.spawn_background(asked(simulation, "crashes"))
        await until(lambda: not is_ready(simulation, "good"), 60)
        await until(lambda: bool(simulation.machines.engines), 60)
        await asyncio.sleep(5)
        simulation.machines.behaviour = msgspec.structs.replace(behaviour, dies=0.0)
        await serves(simulation, "good")

    assert not played(day)


def test_a_node_that_was_silent_is_back_with_its_engine_and_no_other_was_started() -> None:
    """Its memory was taken all the time; it serves again (reliability G8)."""

    async def day(simulation: Simulation) -> None:
        created(simulation, "one", "two")
        await serves(simulation, "one")
        await until(lambda: is_ready(simulation, "one"), 60)
        [node] = {e.node for e in simulation.machines.engines.values() if e.healthy and not e.ended}
        before = {e.pod for e in simulation.machines.engines.values() if not e.ended}
        simulation.machines.silence(node)
        simulation.spawn_background(asked(simulation, "two"))
        await asyncio.sleep(90)
        assert {e.pod for e in simulation.machines.engines.values() if not e.ended} == before
        simulation.machines.restore(node)
        await serves(simulation, "two")
        await serves(simulation, "one")

    assert not played(day)


def test_a_node_that_was_given_up_ends_what_it_still_runs_when_it_is_back() -> None:
    """Meanwhile the Model serves elsewhere: there are never two engines of it at one place (reliability G8)."""

    async def day(simulation: Simulation) -> None:
        created(simulation, "one")
        await until(lambda: is_ready(simulation, "one"), 60)
        [old] = [e for e in simulation.machines.engines.values() if not e.ended]
        simulation.machines.silence(old.node)
        simulation.machines.give_up(old.node)
        await until(lambda: not is_ready(simulation, "one"), 60)
        await serves(simulation, "one")
        assert not old.ended
        simulation.machines.restore(old.node)
        await until(lambda: old.ended, 60)
        [new] = [e for e in simulation.machines.engines.values() if not e.ended]
        assert new.node != old.node
        await serves(simulation, "one")

    assert not played(day)


def two_devices(simulation: Simulation) -> None:
    """Give every node a second device."""
    for node in simulation.machines.agents:
        simulation.machines.devices[node] = (f"GPU-{node}", f"GPU-{node}2")


def display_on(simulation: Simulation, number: int) -> None:
    """Let a display use one device of each node: of two that have room the fuller one is chosen first."""
    for node, agent in simulation.machines.agents.items():
        agent.displays = {simulation.machines.devices[node][number]: DISPLAY_MB}
        simulation.machines.sample(node)


def test_a_holder_of_two_devices_counts_on_the_second_too() -> None:
    """A Model on that one alone waits while the other loads: only the entry of its turn shows its memory yet."""
    order: list[list[str]] = []

    async def day(simulation: Simulation) -> None:
        display_on(simulation, 0)
        simulation.machines.behaviour.loads = 20.0
        created(simulation, "wide", count=2)
        await until(lambda: bool(devices_of(simulation, "wide")), 60)
        display_on(simulation, 1)
        await asyncio.sleep(1)  # until the placer has seen it
        created(simulation, "narrow")
        await until(lambda: bool(devices_of(simulation, "narrow")), 60)
        order.extend(devices_of(simulation, name) for name in ("wide", "narrow"))
        await serves(simulation, "narrow")
        await serves(simulation, "wide")

    assert not played(day, two_devices)
    assert order[0][1:] == order[1]


def devices_of(simulation: Simulation, name: str) -> list[str]:
    """Return the devices on which a Model is placed, in their order."""
    placement = simulation.models()[f"default/{name}"].status.placement
    return [device.uuid for device in placement.devices] if placement is not None else []
