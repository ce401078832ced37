"""The catalogue of the arbiter: the messages of Models, SharedGroups and leases, and its Events, each rendered by its own decisions."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.model import BackendStatus
from flexinfer.api.placement import MEASURED, Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import ONE_AT_A_TIME, RELEASING, STOPPED, HeldDevice
from flexinfer.arbiter import (
    budget,
    decide,
    effects,
    expected,
    foreign_holders,
    grant,
    granted_condition,
    group,
    lease_effects,
    leases,
    member,
    memory_release,
    overdue,
    perform,
    preemption,
    status,
    turns,
    unseen,
)
from flexinfer.arbiter.effects import (
    Advance,
    Grant,
    Initialize,
    Preempt,
    Protect,
    Rebind,
    Report,
    WriteLeaseStatus,
)
from flexinfer.arbiter.member import Member, of_model
from flexinfer.events import events
from flexinfer.events.nodes import DeviceProcess
from flexinfer.state.actions import WriteStatus
from flexinfer.state.observed import ObservedState, Sample
from tests.builders import NOW, a_group, a_holder, a_lease, a_model, a_node, a_pod, a_state, running
from tests.contract.wording import glued, not_rendered
from tests.simulation.loop import run
from tests.unit.arbiter import test_leases, test_memory_release, test_perform, test_preempt
from tests.unit.arbiter.cards import FIRST, Card
from tests.unit.arbiter.groups import IDLE, WANTED, decided, held, later, process, sample
from tests.unit.arbiter.groups import member as a_member
from tests.unit.launcher.world import World

MODULES = (
    *(budget, decide, effects, expected, grant, granted_condition, group, lease_effects, leases, member),
    *(overdue, perform, preemption, memory_release, status, foreign_holders, turns, unseen),
)
NOT_SHOWN = ("it is loading",)


def said(state: ObservedState, now: float = NOW + 1) -> Iterator[str]:
    """Yield every text that is decided on."""
    for action in decided(state, now):
        match action:
            case WriteStatus() | Report():
                yield action.condition.message
            case WriteLeaseStatus():
                yield action.status.conditions[0].message
            case Preempt() | Advance():
                yield action.reason
            case _:
                continue


def two(need: int = 14_000, conditions: Any = WANTED, **facts: Any) -> Card:
    """Return a card with a holder that works, and a Model that has no room beside it."""
    card = Card(shared=facts.pop("shared", True))
    card.holds("chat", 14_000, **facts.pop("holder", {}))
    card.serves("chat")
    card.waits("coder", need, conditions, **facts)
    return card


def queued() -> Iterator[str]:
    """Yield what is said to those that wait, and of those that leave for them."""
    waited = (*FIRST[:3], ("Wanted", "True", Reason.REQUESTED), ("Granted", "False", Reason.QUEUED))
    for facts in (
        {},
        {"priority": 200},
        {"holder": {"priority": 200}},
        {"holder": {"loading": True}},
        {"exclusive": True},
        {"need": 0},
        {"shared": False},
        {"holder": {"entry_mb": 0}},
        {"conditions": FIRST},
    ):
        card = two(**facts)
        for seconds in (1.0, 31.0):
            yield from said(card.observed(seconds), NOW + seconds)
        yield from said(card.observed(mode=ONE_AT_A_TIME))
    late = two(conditions=waited)
    late.serves("coder")
    yield from said(late.observed(20.0, min_stay="10m", max_wait="15s"), NOW + 20)
    first = Card()
    first.holds("chat", 14_000, loading=True)
    first.waits("coder", 14_000)
    yield from said(first.observed())


def kept() -> Iterator[str]:
    """Yield what is said where room is kept, is used by others, or was made already."""
    for holders in (("chat",), ("chat", "embedder")):
        for exclusive in (True, False):
            card = Card()
            for name in holders:
                card.holds(name, 7_000, step=RELEASING)
            card.preempted_by = dict.fromkeys(holders, "image")
            card.waits("image", 20_000, exclusive=exclusive, priority=200)
            card.waits("late", 6_000)
            yield from said(card.observed())
    for card in (*foreign_memory(), *left_for_others()):
        yield from said(card.observed())
    rejected = Card()
    rejected.holds("chat", 14_000, loading=True, reason=Reason.CREATE_REFUSED)
    rejected.waits("coder", 14_000, serverless={"enabled": False})
    for seconds in (1, 31):
        yield from said(rejected.observed(), NOW + seconds)
    stale = Card()
    stale.waits("coder", 1_000)
    state = stale.observed()
    yield from said(msgspec.structs.replace(state, released_at={"default/card": NOW + 2}), NOW + 3)


def foreign_memory() -> Iterator[Card]:
    """Yield cards that others use too."""
    for used_mb, holds in ((5_000, True), (15_000, False)):
        card = Card()
        card.foreign_mb = used_mb
        if holds:
            card.holds("chat", 8_192)
        card.waits("coder", 14_000)
        yield card


def left_for_others() -> Iterator[Card]:
    """Yield cards whose holder stays or leaves because of what was before, and one with a Model that is placed elsewhere."""
    left = Card()
    left.holds("chat", 14_000)
    left.away = {"chat": 41}
    left.waits("coder", 14_000, (*WANTED, ("Ready", "False", Reason.STOPPED)))
    left.serves("coder")
    initial = Card()
    initial.holds("chat", 14_000, loading=True, wanted=FIRST)
    initial.waits("coder", 14_000)
    verified = Card()
    verified.holds("chat", 14_000)
    verified.waits("coder", 14_000, FIRST)
    away = Placement(node="b", devices=placed_devices(["GPU-9"], 1_000), shared=True)
    yield from (left, initial, verified, two(1_000, placement=away))


def rooms() -> Iterator[str]:
    """Yield what is said of room by itself: on another node, without telemetry, and of a lease whose devices are not known."""
    card = Card()
    card.holds("chat", 1_000)
    verified = Card()
    verified.holds("chat", 14_000)
    verified.waits("coder", 14_000, FIRST)
    away = Placement(node="b", devices=placed_devices(["GPU-1"], 1_000), shared=True)
    state = later(card.observed(), NOW + 1, msgspec.structs.replace(card.sample(), node="b"))
    coder, shared = of_model(a_member("coder", placement=away)), card.group()
    yield budget.room(coder, shared, shared.status.holders, state, NOW + 1).why
    yield budget.alone(coder, shared, card.observed(), NOW + 1)
    lost = Placement(node="b", devices=placed_devices(["GPU-9"], 1_000), shared=True)
    lease = Member(object=a_lease(spec={"memory_mb": 1}), placement=lost)
    for seen in (state, later(state, NOW + 1, a_node("b")), card.observed()):
        yield unseen.unseen(lease, seen, NOW + 1)
        yield unseen.unseen(lease, msgspec.structs.replace(seen, connected_since=NOW), NOW + 1)
    no_gpu = Member(object=a_lease(spec={"memory_mb": 1}), placement=Placement(node="a"))
    yield budget.alone(no_gpu, a_group(), a_state(), NOW)


def held_ones() -> Iterator[str]:
    """Yield the messages of a holder: its turn, that it outgrew its entry, and each cause to give it back."""
    grown = Placement(
        node="a", devices=placed_devices(["GPU-1"], 12_000), footprint_mb=12_000, footprint_source=MEASURED
    )
    card = Card()
    card.holds("grown", 8_192, entry_mb=8_192, placement=grown)
    yield from said(card.observed())
    for reason in (Reason.IDLE, Reason.START_FAILED, Reason.NOT_ACCEPTED, "Other"):
        yield from said(a_state(a_member("a", (*WANTED[:3], ("Wanted", "False", reason))), held("a")))
    for change in (
        a_member(
            "a", (*IDLE[:3], ("Wanted", "False", Reason.DELETING)), deletion_timestamp="2026-11-24T10:00:00Z"
        ),
        a_member("a", ("Accepted", ("Placed", "False", Reason.NODE_GONE), *WANTED[2:])),
        a_member("a", WANTED, placement=Placement(node="b", devices=placed_devices(["GPU-9"], 1))),
        a_model("a", conditions=WANTED),
        a_member(
            "a",
            (*WANTED, ("Ready", "False", Reason.BACK_OFF)),
            backend_status=BackendStatus(turn=1, pod_uid="p"),
        ),
        a_member(
            "a",
            (*WANTED, ("Ready", "False", Reason.STOPPED)),
            backend_status=BackendStatus(turn=1, pod_uid="p"),
        ),
    ):
        yield from said(a_state(change, held("a")))
    for step in (RELEASING, STOPPED):
        yield from said(a_state(a_member("a", IDLE), held("a", step, reason="idle")))
    yield from said(a_state(a_member("a"), held("a", deletion_timestamp="2026-11-24T10:00:00Z")))
    for finalizers in ((), ("example.com/theirs",)):
        deleting = a_group(deletion_timestamp="2026-11-24T10:00:00Z", finalizers=finalizers)
        yield from said(a_state(a_member("a"), deleting))
    yield from said(a_state(held("a")))
    raised = Placement(node="a", devices=placed_devices(["GPU-1"], 12_000))
    entry = a_group(a_holder("a", devices=(HeldDevice(uuid="GPU-1", memory_mb=8_192),)))
    yield from said(a_state(a_member("a", placement=raised), entry))
    yield f"placed on {group.where('', ())}, but its turn is of {group.where('a', ('GPU-1', 'GPU-2'))}"


def others() -> Iterator[str]:
    """Yield the messages of a Model that is in no group, waits for its own conditions, or whose devices another group holds."""
    yield from said(a_state(a_model("a", conditions=WANTED)), NOW + 60)
    for number in range(4):
        yield from said(a_state(a_member("a", WANTED[:number]), a_group()))
    yield from said(a_state(a_member("a", IDLE), a_group()))
    yield from said(a_state(a_member("a"), a_group(name="other", namespace="default")), NOW + 60)
    wrong = a_group()
    wrong = msgspec.structs.replace(wrong, metadata=msgspec.structs.replace(wrong.metadata, name="another"))
    yield from said(a_state(a_member("a"), wrong))
    taken = a_group()
    taken = msgspec.structs.replace(taken, spec=msgspec.structs.replace(taken.spec, group="cards"))
    yield from said(a_state(a_member("a"), taken))
    yield decide.wrong_name(wrong).message
    for named in (("GPU-1",), ()):
        stranger = a_group(a_holder("x", devices=named), name="theirs", namespace="team")
        node = a_node("a", allocatable={GPU_RESOURCES["nvidia"]: 1000})
        yield from said(a_state(a_member("a"), a_group(), stranger, node))


def releases() -> Iterator[str]:
    """Yield what keeps devices from being released."""
    stopped = test_memory_release.stopped(before=0)
    yield from said(later(stopped, NOW + 1, events.GpusObserved(node="a", boot="b", sample=2)), NOW + 9)
    lost = sample(0, total_mb=0, free_mb=0, healthy=False)
    yield from said(later(stopped, NOW + 1, lost), NOW + 9)
    yield from said(stopped, NOW + 30)
    for used in (
        [process(7, 6000)],
        [process(7, 6000), process(8, 200, "")],
        [],
    ):
        for known in (True, False):
            state = stopped
            for second in range(0, 300, 10):
                state = later(state, NOW + 1 + second, sample(6000 + second, *used, processes_known=known))
            yield from said(state, NOW + 292)
    hidden = test_memory_release.stopped(before=4000, others=(test_memory_release.XORG,))
    for second in range(0, 300, 10):
        hidden = later(hidden, NOW + 1 + second, sample(4000 + second, process(99, 600, "Xorg")))
    yield from said(hidden, NOW + 292)
    for pods in (0, 1, 2):
        model = a_member("a", IDLE)
        running_ = running(model, *(a_pod(model, name=f"a-{i}", uid=f"pod-{i}") for i in range(pods)))
        for node in ("a", ""):
            entry = a_holder("a", step=RELEASING, node=node, devices=("GPU-1",), reason="idle")
            yield from said(later(a_state(model, a_node("a"), running_), NOW, a_group(entry)), NOW + 400)
    gone = Card()
    lease = test_leases.granted(status={"conditions": ()})
    entry = test_leases.an_entry(step=STOPPED, reason=LeaseReason.EXPIRED)
    state = test_leases.observed(gone, lease, entry=entry)
    for second in range(0, 300, 10):
        state = later(
            state, NOW + 1 + second, sample(8000, DeviceProcess(pid=5, used_mb=8000, name="game", started=5))
        )
    yield from said(state, NOW + 292)


def of_leases() -> Iterator[str]:
    """Yield the messages of leases, and of Models that wait for one."""
    card = Card()
    card.holds("chat", 14_000)
    card.serves("chat")
    for spec in (
        {"memory_mb": 12_000},
        {"memory_mb": None},
        {"memory_mb": 90_000},
        {"memory_mb": -1},
        {"duration": "x"},
    ):
        yield from said(test_leases.observed(card, a_lease(spec=spec)))
        yield from said(later(card.observed(reserve_mb=0), NOW + 1, a_lease(spec=spec)))
    yield from said(a_state(a_group(), a_lease()))
    yield from said(a_state(test_leases.an_other_object(), a_lease()))
    waits = Card()
    waits.waits("chat", 20_000)
    for lease in (
        test_leases.granted(),
        test_leases.granted(None),
        test_leases.granted(status={"expires_at": ""}),
    ):
        entry = test_leases.an_entry()
        yield from said(test_leases.observed(waits, lease, entry=entry))
        yield from said(
            test_leases.observed(waits, lease, a_lease("other", spec={"memory_mb": 500}), entry=entry)
        )
        yield from said(test_leases.observed(waits, entry=entry))
    for reason in (LeaseReason.EXPIRED, "the SharedGroup is being deleted"):
        entry = test_leases.an_entry(step=RELEASING, reason=reason)
        yield from said(test_leases.observed(waits, test_leases.granted(), entry=entry))
    shared = a_group()
    for devices in ((HeldDevice(uuid="GPU-1", memory_mb=8000),), ()):
        entry = test_leases.an_entry()
        entry = msgspec.structs.replace(entry, devices=devices)
        told = leases.granted_status(shared, entry, test_leases.granted(), "2026-11-24T20:00:00Z")
        yield told.conditions[0].message
        yield leases.granted_status(shared, entry, test_leases.granted(), "").conditions[0].message
    deleted = a_group(deletion_timestamp="2026-11-24T10:00:00Z")
    state = a_state(test_leases.granted())
    yield leases.must_leave(None, entry, deleted, state, NOW)
    yield leases.must_leave(a_lease(), entry, deleted, state, NOW)


async def protected() -> World:
    """Return the world in which a finalizer was put back."""
    world = test_perform.a_world(a_member("a"), held("a", turn=3, finalizers=()))
    action = test_perform.effect(test_perform.as_read(world, a_member("a")))
    assert isinstance(action, Protect)
    await test_perform.performed(world, action)
    return world


async def performed() -> list[str]:
    """Return the Events of every step of a group, and the conditions of its first status."""
    worlds = []
    for models in (0, 1, 2):
        world = World()
        world.put("sharedgroups", msgspec.to_builtins(a_group(initialized=False)))
        for number in range(models):
            put_with_pod(world, f"m{number}")
        state = a_state(test_perform.the_group(world), a_member("m0"), a_member("m1"))
        [first] = [action for action in decided(state) if isinstance(action, Initialize)]
        await test_perform.performed(world, first)
        worlds.append(world)
    full = test_preempt.full()
    for kind in (Preempt,):
        world, state = test_preempt.world_of(full), full.observed()
        await test_preempt.performed(world, test_preempt.decided_on(state, kind), state)
        worlds.append(world)
    alone = Card()
    alone.waits("image", 12_288)
    world, state = test_preempt.world_of(alone), alone.observed()
    await test_preempt.performed(world, test_preempt.decided_on(state, Grant), state)
    worlds.append(world)
    worlds += [await advanced(), await rebound(), await reported(), await protected()]
    await asyncio.sleep(1)
    texts = [
        thing["message"] for world in worlds for (kind, *_), thing in world.things.items() if kind == "events"
    ]
    conditions = [
        c.message for world in worlds for c in test_perform.the_group(world).status.conditions if c.message
    ]
    reasons = [h.reason for world in worlds for h in test_perform.the_group(world).status.holders]
    return [*texts, *conditions, *reasons]


def put_with_pod(world: World, name: str) -> None:
    """Put a member and its Pod of a turn, as they were before the SharedGroup was."""
    world.put("models", msgspec.to_builtins(a_member(name)))
    labels = {"flexinfer.ai/model": name, "flexinfer.ai/turn": "3", "flexinfer.ai/model-uid": f"uid-{name}"}
    world.put("pods", {"metadata": {"name": f"{name}-0", "labels": labels}, "spec": {"containers": []}})
    world.touch(
        "pods", f"{name}-0", lambda pod: pod["metadata"].update(deletionTimestamp="2026-11-24T10:00:00Z")
    )


async def advanced() -> World:
    """Return a world in which a holder went through its steps."""
    world = test_perform.a_world(a_member("a", IDLE), held("a", turn=3))
    await test_perform.performed(world, test_perform.effect(test_perform.as_read(world, a_member("a", IDLE))))
    return world


async def rebound() -> World:
    """Return a world in which a device plugin has picked another device."""
    model = a_member(
        "a", placement=test_perform.OTHER_CARD, backend_status=BackendStatus(turn=3, pod_uid="pod")
    )
    elsewhere = a_group(
        a_holder("a", turn=3, devices=(HeldDevice(uuid="GPU-2", memory_mb=4000),)), version=40
    )
    world = test_perform.a_world(model, elsewhere)
    pod = msgspec.structs.replace(a_pod(model), uid="pod", turn=3, node="a", devices=("GPU-1",))
    state = test_perform.as_read(world, model, running(model, pod))
    [action] = [one for one in decided(state) if isinstance(one, Rebind)]
    await test_perform.performed(world, action, Sample(sample(0), NOW))
    return world


async def reported() -> World:
    """Return a world in which a group was blocked and then is no more."""
    world = World()
    blocked = later(test_memory_release.stopped(), NOW + 1, events.GpusObserved(node="a", boot="b", sample=2))
    group_ = held("a", STOPPED)
    world.put("sharedgroups", msgspec.to_builtins(group_))
    world.put("models", msgspec.to_builtins(a_member("a", IDLE)))
    [report] = [one for one in decided(blocked, NOW + 9) if isinstance(one, Report)]
    await test_perform.performed(world, report)
    free = msgspec.structs.replace(report.condition, status="False", reason="NotBlocked", message="")
    await asyncio.sleep(1)
    await test_perform.performed(world, Report(group=test_perform.the_group(world), condition=free))
    return world


def rendered() -> list[str]:
    """Return every message."""
    parts = (queued(), kept(), rooms(), held_ones(), others(), releases(), of_leases())
    return [text for part in parts for text in part] + run(performed())


def test_every_message_of_the_arbiter_is_whole() -> None:
    """To members, leases and groups, in conditions and in Events."""
    assert {wrong for message in rendered() for wrong in glued(message) if message} == set()


def test_no_message_of_the_arbiter_is_left_out() -> None:
    """Each text in its modules is in one that was rendered."""
    assert not_rendered(MODULES, rendered(), NOT_SHOWN) == []
