"""What one changed Model costs a component at 10, 100, 500 and 2,000 Models: CPU time and ratio to 10 Models.

In this process, on the path of the control loop: apply the event to the state, find the keys that it touches, decide
on each. Three worlds: idle Models, Models with traffic, and Models in shared groups of four. Beside the changed Model
stand a heartbeat and a GPU sample with nothing new, and as the comparison a decision on every Model.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Cache, Gpu, Model, ModelSpec, ModelStatus
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import BLOCKED, INITIALIZED, SharedGroup, SharedGroupSpec, SharedGroupStatus
from flexinfer.arbiter.__main__ import controller as arbiter
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.launcher.__main__ import controller as launcher
from flexinfer.placer.__main__ import controller as placer
from flexinfer.prefetcher.__main__ import controller as prefetcher
from flexinfer.reaper.__main__ import controller as reaper
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.settings import Settings
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

COUNTS = (10, 100, 500, 2000)
WORLDS = ("idle", "traffic", "groups of 4")
GOAL = 2.0
"""What a change may cost at 2,000 Models, as a multiple of what it costs at 10."""
_ROUNDS = 40
_NODES, _CARDS = 4, 8
"""Nodes of the worlds without groups, and the cards of a node, each of which one group shares."""
_NOW = 1000.0
AnyController: TypeAlias = Controller[Any, Any, Any]
_SETTINGS = Settings()
CONTROLLERS: Mapping[str, Callable[[], AnyController]] = {
    "placer": lambda: placer(_SETTINGS),
    "prefetcher": lambda: prefetcher(_SETTINGS),
    "reaper": lambda: reaper(_SETTINGS),
    "arbiter": lambda: arbiter(_SETTINGS),
    "launcher": lambda: launcher(_SETTINGS),
}
_AT_REST = {
    conditions.ACCEPTED: ("True", Reason.ACCEPTED),
    conditions.PLACED: ("True", Reason.PLACED),
    conditions.CACHED: ("True", Reason.PULLED_BY_ENGINE),
    conditions.WANTED: ("False", Reason.IDLE),
    conditions.GRANTED: ("True", Reason.NOT_SHARED),
    conditions.READY: ("False", Reason.STOPPED),
}


def model(number: int, world: str, *, version: int = 1, wanted: bool = False) -> Model:
    """Return a Model that is scaled to zero, or that a request has just started."""
    name = f"model-{number:04}"
    group = f"g{number // 4}" if world == "groups of 4" else ""
    verdicts = dict(_AT_REST)
    if wanted:
        verdicts[conditions.WANTED] = ("True", Reason.REQUESTED)
    if group:
        verdicts[conditions.GRANTED] = ("False", Reason.NOT_WANTED)
    told = tuple(
        Condition(type=kind, status=status, reason=str(reason), observed_generation=1)
        for kind, (status, reason) in verdicts.items()
    )
    gpu = Gpu(vendor="nvidia", shared=group, vram_estimate_mb=1000) if group else None
    placement = Placement(
        node=f"node-{number // 4 // _CARDS if group else number % _NODES}",
        devices=placed_devices([f"GPU-{number // 4 % _CARDS}"]) if group else (),
        vendor="nvidia" if group else "cpu",
    )
    return Model(
        metadata=Metadata(
            name=name, namespace="default", uid=f"uid-{name}", resource_version=str(version), generation=1
        ),
        spec=ModelSpec(backend="ollama", source="ollama://tiny", gpu=gpu, cache=Cache(strategy="None")),
        status=ModelStatus(conditions=told, placement=placement),
    )


def _shared_group(name: str) -> SharedGroup:
    """Return the SharedGroup of a group whose devices no Model holds."""
    meta = Metadata(name=name, namespace="default", uid=f"uid-{name}", resource_version="1", generation=1)
    written = tuple(
        Condition(type=kind, status=status, reason=reason, observed_generation=1)
        for kind, status, reason in ((INITIALIZED, "True", INITIALIZED), (BLOCKED, "False", "NotBlocked"))
    )
    status = SharedGroupStatus(turn=1, conditions=written)
    return SharedGroup(metadata=meta, spec=SharedGroupSpec(group=name), status=status)


def _sample(node: str, sample: int) -> events.GpusObserved:
    devices = tuple(
        Device(uuid=f"GPU-{card}", total_mb=24_000, free_mb=24_000, used_mb=0, vendor="nvidia")
        for card in range(_CARDS)
    )
    return events.GpusObserved(node=node, boot="b", sample=sample, devices=devices)


def _observed(count: int, world: str) -> Iterator[AnyEvent]:
    """Yield everything that a world of so many Models consists of."""
    allocatable = {"cpu": 64_000, "memory": 2**38 * 1000, "pods": 10_000_000, "nvidia.com/gpu": 8_000}
    groups = -(-count // 4) if world == "groups of 4" else 0
    for number in range(max(_NODES, -(-groups // _CARDS))):
        name = f"node-{number}"
        node = NodeFacts(name=name, uid=name, ready="True", allocatable=allocatable)
        yield events.NodeObserved(name=name, node=node)
        yield _sample(name, 1)
    for proxy in ("proxy-0", "proxy-1"):
        yield events.ProxyObserved(proxy=proxy)
    for number in range(groups):
        yield events.GroupObserved(group=_shared_group(f"g{number}"))
    for number in range(count):
        one = model(number, world)
        yield events.ModelObserved(model=one)
        if world == "traffic":
            for proxy in ("proxy-0", "proxy-1"):
                yield events.ActivityObserved(
                    proxy=proxy, namespace="default", name=one.metadata.name, uid=one.uid,
                    idle_seconds=5.0, in_flight=0, waiting=0,
                )  # fmt: skip


def state_of(count: int, world: str) -> ObservedState:
    """Return the observed state of so many Models."""
    observations = [Observation(event, _NOW - 1) for event in _observed(count, world)]
    return msgspec.structs.replace(apply_events(ObservedState(), observations), connected_since=0.0)


def cost(controller: AnyController, state: ObservedState, changes: Iterable[AnyEvent]) -> float:
    """Return the median CPU milliseconds of one event: apply it, find its keys, decide on each."""
    times = []
    for event in changes:
        began = time.process_time()
        after = apply_events(state, [Observation(event, _NOW)])
        for key in sorted(set(controller.touched(state, after, event))):
            list(controller.decide(after, controller.memory, key, _NOW))
        times.append(1000 * (time.process_time() - began))
        state = after
    return statistics.median(times)


def cost_of_all(controller: AnyController, state: ObservedState) -> float:
    """Return the CPU milliseconds of a decision on every key."""
    began = time.process_time()
    for key in controller.keys(state):
        list(controller.decide(state, controller.memory, key, _NOW))
    return 1000 * (time.process_time() - began)


def _woken(count: int, world: str) -> list[AnyEvent]:
    numbers = (round_ * 7 % count for round_ in range(_ROUNDS))
    return [
        events.ModelObserved(model=model(number, world, version=2 + version, wanted=True))
        for version, number in enumerate(numbers)
    ]


def _nothing_new() -> list[AnyEvent]:
    samples = [_sample("node-0", 2 + number) for number in range(_ROUNDS // 2)]
    return [*samples, *(events.ProxyObserved(proxy="proxy-0") for _ in range(_ROUNDS // 2))]


def measure(name: str, world: str) -> list[tuple[int, float, float, float]]:
    """Return for each count of Models: a changed Model, nothing new, and a decision on all, in milliseconds."""
    rows = []
    for count in COUNTS:
        controller, state = CONTROLLERS[name](), state_of(count, world)
        changed = cost(controller, state, _woken(count, world))
        nothing = cost(controller, state, _nothing_new())
        rows.append((count, changed, nothing, cost_of_all(controller, state)))
    return rows


def main() -> None:
    """Print one table a world, and whether the goal is met."""
    for world in WORLDS:
        print(
            f"{world}: CPU ms of a changed Model / of a heartbeat or sample with nothing new / of a decision on all"
        )
        for name in CONTROLLERS:
            rows = measure(name, world)
            cells = "  ".join(f"{n}: {c:.2f}/{h:.3f}/{a:.0f}" for n, c, h, a in rows)
            ratio = rows[-1][1] / rows[0][1]
            print(
                f"  {name:10} {cells}  ratio 2000:10 {ratio:.1f} ({'met' if ratio <= GOAL else 'missed'})",
                flush=True,
            )


if __name__ == "__main__":
    main()
