"""The arbiter's effects in a small world: what is read before a step, and what the SharedGroup holds after it."""

import asyncio
from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import HELD_FINALIZER, MODEL_LABEL, MODEL_UID_LABEL, TURN_LABEL
from flexinfer.api.model import BackendStatus, Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, HeldDevice, SharedGroup, object_name
from flexinfer.arbiter.effects import Create, Effect, Grant, Initialize
from flexinfer.arbiter.perform import perform
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.events import events
from flexinfer.events.nodes import DeviceProcess
from flexinfer.runtime.kubernetes.api import ConflictError
from flexinfer.state.observed import ObservedState, Sample
from tests.builders import NOW, a_group, a_holder, a_pod, a_state, running
from tests.runtimes import a_runtime
from tests.unit.arbiter.groups import (
    IDLE,
    PLACED,
    STOPPED_READY,
    WANTED,
    decided,
    held,
    later,
    member,
    process,
    sample,
)
from tests.unit.launcher.world import World

DELETING: dict[str, Any] = {"deletion_timestamp": "2026-11-24T10:00:00Z"}


def a_world(*objects: Model | SharedGroup) -> World:
    """Return a world that holds these objects."""
    world = World()
    for thing in objects:
        world.put("models" if isinstance(thing, Model) else "sharedgroups", msgspec.to_builtins(thing))
    return world


def the_group(world: World, name: str = "card") -> SharedGroup:
    """Return the SharedGroup as the API holds it."""
    return msgspec.convert(world.find("sharedgroups", name), SharedGroup)


def effect(state: ObservedState, at: float = NOW) -> Effect:
    """Return the one effect that is decided, a report that nothing is blocked aside."""
    [found] = [a for a in decided(state, at) if isinstance(a, Effect) and type(a).__name__ != "Report"]
    return found


def seen_by(sample: Sample | None) -> Telemetry:
    """Return what the arbiter knows of the nodes: this sample of node a."""
    telemetry = Telemetry()
    telemetry.observe(ObservedState(gpus={"a": sample} if sample is not None else {}), None)
    return telemetry


async def performed(world: World, action: Effect, telemetry: Sample | None = None) -> list[Any]:
    """Perform an effect, with this sample of the node."""
    runtime = a_runtime("arbiter", cluster=world)
    return list(await perform(runtime, action, telemetry=seen_by(telemetry)))


def as_read(world: World, *parts: Any) -> ObservedState:
    """Return the state in which the SharedGroup was observed as it is, and these parts."""
    return a_state(the_group(world), *parts)


async def test_a_holder_that_is_asked_for_again_is_not_released() -> None:
    """Decided: idle. Read again: a request waits. The condition that it depends on is no longer what it was."""
    world = a_world(member("a", WANTED), held("a", turn=3))
    replies = await performed(world, effect(as_read(world, member("a", IDLE))))
    assert the_group(world).status.holders[0].step == GRANTED
    assert any(isinstance(reply, events.ModelObserved) for reply in replies)


async def test_a_holder_is_released_for_the_reason_that_was_read_again() -> None:
    """The one that was decided on may have changed."""
    world = a_world(member("a", (*IDLE[:3], ("Wanted", "False", Reason.START_FAILED))), held("a", turn=3))
    await performed(world, effect(as_read(world, member("a", IDLE))))
    [holder] = the_group(world).status.holders
    assert (holder.step, holder.turn, holder.reason) == (RELEASING, 3, "its start failed")


OTHER_CARD = Placement(node="a", devices=placed_devices(["GPU-1"], 4000))


async def test_the_devices_that_an_engine_has_got_are_those_of_its_turn() -> None:
    """What its own Pod uses there already is not what others use."""
    model = member("a", placement=OTHER_CARD, backend_status=BackendStatus(turn=3, pod_uid="pod"))
    granted = held("a", turn=3)
    [holder] = granted.status.holders
    elsewhere = msgspec.structs.replace(holder, devices=(HeldDevice(uuid="GPU-2", memory_mb=4000),))
    group = a_group(elsewhere, version=40)
    pod = msgspec.structs.replace(a_pod(model), uid="pod", turn=3, node="a", devices=("GPU-1",))
    world = a_world(model, group)
    seen = DeviceProcess(pid=7, used_mb=4000, pod_uid="pod"), process(8, 700, "game")
    action = effect(as_read(world, model, running(model, pod)))
    runtime = a_runtime("arbiter", cluster=world, clock=lambda: NOW + 1)
    await perform(runtime, action, telemetry=seen_by(Sample(sample(4700, *seen), NOW)))
    [written] = the_group(world).status.holders
    [device] = written.devices
    assert (written.step, written.turn, device.uuid, device.memory_mb) == (GRANTED, 3, "GPU-1", 4000)
    assert (device.used_before_mb, [one.name for one in device.other_processes]) == (700, ["game"])


async def test_a_turn_that_was_released_meanwhile_keeps_its_devices() -> None:
    """Its memory is looked for where it was granted."""
    model = member("a", placement=OTHER_CARD, backend_status=BackendStatus(turn=3, pod_uid="pod"))
    elsewhere = HeldDevice(uuid="GPU-2", memory_mb=4000)
    pod = msgspec.structs.replace(a_pod(model), uid="pod", turn=3, node="a", devices=("GPU-1",))
    decided_on = a_group(a_holder("a", turn=3, devices=(elsewhere,)), version=40)
    action = effect(a_state(decided_on, model, running(model, pod)))
    world = a_world(model, a_group(a_holder("a", turn=3, step=RELEASING, devices=(elsewhere,)), version=41))
    await performed(world, action)
    assert the_group(world).status.holders[0].uuids == ("GPU-2",)


async def test_a_holder_is_stopped_only_by_a_report_that_is_still_there() -> None:
    """A new start took place meanwhile."""
    reported = member("a", (*IDLE, STOPPED_READY), backend_status=BackendStatus(turn=3))
    world = a_world(
        member("a", IDLE, backend_status=BackendStatus(turn=3, pod_uid="p")), held("a", RELEASING, 3)
    )
    await performed(world, effect(as_read(world, reported)))
    assert the_group(world).status.holders[0].step == RELEASING
    world.put("models", msgspec.to_builtins(reported))
    await performed(world, effect(as_read(world, reported)))
    assert the_group(world).status.holders[0].step == STOPPED


async def test_a_holder_that_is_gone_counts_as_stopped_only_if_it_is_gone() -> None:
    """Decided from a deletion; the Model is there."""
    world = a_world(member("a", IDLE), held("a", RELEASING, 3))
    await performed(world, effect(as_read(world)))
    assert the_group(world).status.holders[0].step == RELEASING


async def test_a_freed_holder_is_taken_off_the_list() -> None:
    """The highest turn stays."""
    world = a_world(member("a", IDLE), held("a", STOPPED, 3))
    await performed(world, effect(as_read(world, member("a", IDLE)), NOW + 5))
    assert (the_group(world).status.holders, the_group(world).status.turn) == ((), 3)
    assert the_group(world).status.held_mb == 0


async def test_a_grant_is_the_next_turn_and_notes_what_is_in_use() -> None:
    """Node, devices, memory before, and foreign processes."""
    world = a_world(member("a"), a_group(turn=7))
    action = effect(as_read(world, member("a")))
    seen = Sample(sample(600, process(99, 600, "Xorg")), NOW)
    runtime = a_runtime("arbiter", cluster=world, clock=lambda: NOW + 1)
    await perform(runtime, action, telemetry=seen_by(seen))
    status = the_group(world).status
    [holder] = status.holders
    assert (status.turn, holder.turn, holder.step, holder.uid, holder.node) == (8, 8, GRANTED, "uid-a", "a")
    [device] = holder.devices
    assert (device.used_before_mb, [p.name for p in device.other_processes]) == (600, ["Xorg"])
    assert (status.held_mb, status.budget_mb, status.node) == (4000, None, "a"), (
        "one at a time: the node shares no GPU"
    )


async def test_nothing_is_granted_before_a_sample_that_may_still_come() -> None:
    """A foreign process that was there before would count as the holder's, and block the group; a silent agent blocks no grant."""
    world = a_world(member("a"), a_group(turn=7))
    action, telemetry = effect(as_read(world, member("a"))), Telemetry()
    telemetry.observe(ObservedState(connected_since=NOW), None)
    await perform(a_runtime("arbiter", cluster=world, clock=lambda: NOW + 5), action, telemetry=telemetry)
    assert not the_group(world).status.holders
    await perform(a_runtime("arbiter", cluster=world, clock=lambda: NOW + 31), action, telemetry=telemetry)
    assert the_group(world).status.holders


async def test_a_turn_is_above_those_that_the_model_had_in_another_group() -> None:
    """Its launcher takes no lower one than `status.backend` names: the Model would never start in the group it went to."""
    seen = member("a", backend_status=BackendStatus(turn=35))
    world = a_world(seen, a_group(turn=7))
    await performed(world, effect(as_read(world, seen)))
    [holder] = the_group(world).status.holders
    assert (the_group(world).status.turn, holder.turn) == (36, 36)


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(held("b", turn=8), id="another holder"),
        pytest.param(a_group(turn=7, initialized=False), id="not initialised"),
        pytest.param(a_group(turn=7, **DELETING), id="being deleted"),
    ],
)
async def test_nothing_is_granted_in_a_group_that_is_not_free_any_more(there: SharedGroup) -> None:
    """It was when that was decided."""
    world = a_world(member("a"), there)
    await performed(world, effect(a_state(member("a"), a_group(turn=7))))
    assert the_group(world).status == there.status


async def test_a_device_that_another_group_was_granted_meanwhile_is_not_granted() -> None:
    """All SharedGroups are read before the write; what was read is observed."""
    world = a_world(member("a"), a_group(turn=7))
    action = effect(as_read(world, member("a")))
    world.group(a_group(a_holder("x", devices=("GPU-1",)), name="other"))
    replies = await performed(world, action)
    assert the_group(world).status.holders == ()
    assert "other" in {reply.group.name for reply in replies if isinstance(reply, events.GroupObserved)}


async def test_two_groups_are_not_granted_one_device_at_once() -> None:
    """Grants on a node are made one after the other: each reads what the one before it wrote (reliability G5)."""
    other = Gpu(vendor="nvidia", shared="other")
    world = a_world(member("a"), a_group(turn=7), member("b", gpu=other), a_group(name="other", turn=7))
    state = as_read(world, member("a"), member("b", gpu=other), the_group(world, "other"))
    actions = [action for action in decided(state) if isinstance(action, Grant)]
    runtime, telemetry = a_runtime("arbiter", cluster=world), Telemetry()
    await asyncio.gather(*(perform(runtime, action, telemetry=telemetry) for action in actions))
    granted = [h.model for name in ("card", "other") for h in the_group(world, name).status.holders]
    assert (len(actions), len(granted)) == (2, 1)


async def test_nothing_is_granted_to_a_model_that_does_not_need_it_any_more() -> None:
    """Read again before the write."""
    world = a_world(member("a", IDLE), a_group())
    await performed(world, effect(as_read(world, member("a"))))
    assert the_group(world).status.holders == ()


async def test_a_write_in_between_wins() -> None:
    """An arbiter that was suspended between its read and its write writes nothing (reliability G5)."""
    world = a_world(member("a"), a_group(turn=7))
    action = effect(as_read(world, member("a")))

    def another_grants(call: str) -> None:
        if call == "replace sharedgroups":
            world.group(held("b", turn=8))

    world.between = another_grants
    with pytest.raises(ConflictError):
        await performed(world, action)
    assert [holder.model for holder in the_group(world).status.holders] == ["b"]


async def test_an_object_that_was_made_again_is_not_taken_for_the_former() -> None:
    """The uid differs: what was decided about that one is dropped."""
    world = a_world(member("a", IDLE), held("a", turn=3, uid="made again"))
    [gone, there] = await performed(world, effect(a_state(member("a", IDLE), held("a", turn=3))))
    assert isinstance(gone, events.GroupDeleted)
    assert isinstance(there, events.GroupObserved)
    assert the_group(world).status.holders[0].step == GRANTED


async def test_the_object_is_created_with_name_and_finalizer() -> None:
    """A group may have any name; one that is there already is taken as it is."""
    world = World()
    await performed(world, Create(namespace="default", group="My Card!"))
    made = the_group(world, object_name("My Card!"))
    assert (made.spec.group, made.counts, made.metadata.finalizers) == ("My Card!", True, (HELD_FINALIZER,))
    [reply] = await performed(world, Create(namespace="default", group="My Card!"))
    assert reply.group.metadata.uid == made.metadata.uid


# --- the first look


def put_pod(
    world: World,
    name: str,
    turn: int,
    *,
    gated: bool = False,
    deleting: bool = False,
    uid: str = "",
    devices: bool = True,
) -> None:
    """Put an engine's Pod there."""
    labels = {MODEL_LABEL: name, MODEL_UID_LABEL: uid or f"uid-{name}", TURN_LABEL: str(turn)}
    meta: dict[str, Any] = {"name": f"{name}-0", "labels": labels}
    meta |= {"deletionTimestamp": "2026-11-24T10:00:00Z"} if deleting else {}
    gates = [{"name": f"flexinfer.ai/turn-{turn}"}] if gated else []
    spec = {"nodeName": "" if gated else "a", "schedulingGates": gates}
    limits = {"nvidia.com/gpu": "1"} if devices else {"cpu": "4"}
    containers = [{"name": "engine", "resources": {"limits": limits}}]
    world.put("pods", {"metadata": meta, "spec": {**spec, "containers": containers}})


async def looked(world: World, *models: Model) -> SharedGroup:
    """Initialise the group, and return it."""
    await performed(world, effect(as_read(world, *models)))
    return the_group(world)


async def test_pods_whose_gate_is_open_hold_the_devices() -> None:
    """With the turn of their label."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5)
    group = await looked(world, member("a"))
    [holder] = group.status.holders
    assert (holder.model, holder.uid, holder.turn, holder.step) == ("a", "uid-a", 5, GRANTED)
    assert (holder.node, [device.uuid for device in holder.devices]) == ("a", ["GPU-1"])
    assert group.initialized


async def test_a_pod_on_another_node_has_none_of_the_devices_of_the_placement() -> None:
    """The Model went to the group, and to another node, while its engine ran: that node never reports these devices."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5)
    elsewhere = msgspec.structs.replace(PLACED, node="b")
    [holder] = (await looked(world, member("a", placement=elsewhere))).status.holders
    assert (holder.node, holder.devices) == ("a", ())


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param({"gated": True}, id="gated"),
        pytest.param({"deleting": True}, id="terminating"),
        pytest.param({"uid": "a former one"}, id="of a deleted Model"),
    ],
)
async def test_pods_that_may_not_stay_are_holders_too_and_about_to_leave(pod: dict[str, Any]) -> None:
    """What they have loaded must be seen free."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5, **pod)
    group = await looked(world, member("a"))
    [holder] = group.status.holders
    assert (holder.turn, holder.step, holder.uid) == (5, RELEASING, pod.get("uid", "uid-a"))


async def test_a_model_that_still_holds_devices_of_the_group_that_it_leaves_is_no_holder_of_the_next() -> (
    None
):
    """Its Pod is of the other one's turn; it is queued here once that is released."""
    other = a_group(a_holder("a", turn=5), name="other")
    world = a_world(a_group(initialized=False), other)
    put_pod(world, "a", 5)
    assert (await looked(world, member("a"))).status.holders == ()


async def test_a_pod_without_a_turn_gets_one_in_which_it_is_released() -> None:
    """Its Model joined the group while it ran, or a user removed the label."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 0)
    group = await looked(world, member("a"))
    [holder] = group.status.holders
    assert (holder.step, holder.turn) == (RELEASING, group.status.turn)
    assert holder.turn > 0


async def test_a_pod_without_a_turn_that_asks_for_no_device_is_not_adopted() -> None:
    """Its Model joined the group while it ran on CPUs: what others use on its node is not its memory, and would never be free."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 0, devices=False)
    assert (await looked(world, member("a"))).status.holders == ()
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5, devices=False)
    assert len((await looked(world, member("a"))).status.holders) == 1


async def test_turns_go_on_above_all_that_were_ever_given() -> None:
    """The highest in statuses and on Pods, and the object's own resourceVersion: numbers of its former life stay unused."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5)
    version = the_group(world).metadata.version
    assert (await looked(world, member("a"))).status.turn == version > 5
    world = a_world(a_group(initialized=False))
    seen = member("a", backend_status=BackendStatus(turn=70_000))
    assert (await looked(world, seen)).status.turn == 70_000
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 80_000)
    assert (await looked(world, member("a"))).status.turn == 80_000


@pytest.mark.parametrize("number", [10**13, 10**18 - 1, 2**63 - 1])
async def test_a_number_that_cannot_be_a_turn_does_not_count(number: int) -> None:
    """On a Pod, in a status: the next turn would be larger than a label is read, or than the API server holds, and nothing would start again."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", number)
    strange = member("b", backend_status=BackendStatus(turn=number))
    group = await looked(world, member("a"), strange)
    assert group.status.turn < 1000
    [holder] = group.status.holders
    assert (holder.step, holder.turn) == (RELEASING, group.status.turn)
    world = a_world(strange, a_group(turn=number))
    version = the_group(world).metadata.version
    await performed(world, effect(as_read(world, strange)))
    assert the_group(world).status.turn == version + 1


def claims_the_same(world: World, labels: Any) -> None:
    """Put a second Pod there with labels of an engine's."""
    put_pod(world, "foreign", 9)
    pod = world.find("pods", "foreign-0")
    assert pod is not None
    pod["metadata"] |= {"name": "any", "labels": pod["metadata"]["labels"] | labels}
    world.put("pods", pod)


async def test_a_pod_that_claims_the_labels_of_an_engine_is_no_holder() -> None:
    """Two entries of one uid are refused by the API server: the group would never be initialised. An engine's Pod has the one name of its Model."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5)
    claims_the_same(world, {MODEL_LABEL: "a", MODEL_UID_LABEL: "uid-a"})
    [holder] = (await looked(world, member("a"))).status.holders
    assert (holder.turn, holder.step) == (5, GRANTED)


async def test_of_two_pods_that_claim_one_uid_the_models_own_is_the_holder() -> None:
    """The label of the other's was edited."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5, uid="uid-b")
    put_pod(world, "b", 6)
    [holder] = (await looked(world, member("a"), member("b"))).status.holders
    assert (holder.model, holder.uid, holder.turn, holder.step) == ("b", "uid-b", 6, GRANTED)


@pytest.mark.parametrize("label", [MODEL_LABEL, MODEL_UID_LABEL, TURN_LABEL])
async def test_an_engine_whose_label_was_removed_holds_its_devices(label: str) -> None:
    """Its Pod has the name of the Model's, and belongs to it."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "a", 5)
    pod = world.find("pods", "a-0")
    assert pod is not None
    del pod["metadata"]["labels"][label]
    pod["metadata"]["ownerReferences"] = [{"kind": "Model", "name": "a", "uid": "uid-a", "controller": True}]
    world.put("pods", pod)
    [holder] = (await looked(world, member("a"))).status.holders
    assert (holder.model, holder.uid) == ("a", "uid-a")
    assert holder.step == (RELEASING if label == TURN_LABEL else GRANTED)


async def test_pods_are_listed_after_the_object_was_read() -> None:
    """A Pod whose gate opens between a list and a later read would be missed. The finalizer is put on before."""
    world = a_world(a_group(initialized=False, finalizers=()))
    await looked(world, member("a"))
    assert world.calls[:5] == [
        "get sharedgroups",
        "list gpuleases",
        "patch sharedgroups",
        "list pods",
        "list sharedgroups",
    ]
    assert the_group(world).metadata.finalizers == (HELD_FINALIZER,)


async def test_a_pod_of_another_group_is_not_adopted() -> None:
    """Nor a Pod that is not an engine's."""
    world = a_world(a_group(initialized=False))
    put_pod(world, "elsewhere", 5)
    world.put("pods", {"metadata": {"name": "foreign", "labels": {TURN_LABEL: "9"}}, "spec": {}})
    assert (await looked(world, member("a"))).status.holders == ()


async def test_a_group_that_another_arbiter_has_initialised_is_left_as_it_is() -> None:
    """The second one decided before it saw that."""
    world = a_world(held("a", turn=5))
    models = (member("a"),)
    await performed(world, Initialize(group=a_group(initialized=False), models=models, highest_turn=0))
    assert the_group(world).status.holders[0].turn == 5
    assert "replace sharedgroups" not in world.calls


# --- its end


async def test_an_object_that_is_deleted_goes_when_nobody_holds_it() -> None:
    """And not before."""
    world = a_world(a_group(**DELETING))
    [reply] = await performed(world, effect(as_read(world)))
    assert isinstance(reply, events.GroupDeleted)
    assert world.find("sharedgroups", "card") is None
    world = a_world(held("a", **DELETING))
    await performed(world, effect(a_state(a_group(**DELETING))))
    assert the_group(world).status.holders[0].model == "a"


async def test_a_finalizer_that_was_removed_while_the_devices_are_held_is_put_back() -> None:
    """Beside those of others; the object would go at once, and what it says of its holders with it."""
    world = a_world(member("a"), held("a", turn=3, finalizers=("example.com/theirs",)))
    state = as_read(world, member("a"))
    runtime = a_runtime("arbiter", cluster=world)
    await perform(runtime, effect(state), telemetry=Telemetry())
    assert the_group(world).metadata.finalizers == ("example.com/theirs", HELD_FINALIZER)
    assert not [a for a in decided(as_read(world, member("a"))) if type(a).__name__ == "Protect"]
    await asyncio.sleep(0.2)
    [remark] = [thing["message"] for (kind, *_), thing in world.things.items() if kind == "events"]
    assert remark == "finalizer flexinfer.ai/held was removed while the GPUs are held; it was added again"


@pytest.mark.parametrize("group", [a_group(finalizers=()), held("a", finalizers=(), **DELETING)])
async def test_a_finalizer_is_put_back_where_it_can_be_and_is_needed(group: SharedGroup) -> None:
    """Not without a holder, nor while the object is being deleted: the API server would refuse it."""
    assert not [a for a in decided(a_state(group)) if type(a).__name__ == "Protect"]


async def test_an_object_of_another_name_says_that_it_is_ignored() -> None:
    """With the name that counts."""
    wrong = a_group(initialized=False)
    wrong = msgspec.structs.replace(wrong, metadata=msgspec.structs.replace(wrong.metadata, name="mine"))
    world = a_world(wrong)
    [report] = [a for a in decided(a_state(the_group(world, "mine"))) if type(a).__name__ == "Report"]
    await performed(world, report)
    accepted = the_group(world, "mine").condition("Accepted")
    assert accepted is not None
    assert (accepted.status, accepted.reason) == ("False", "WrongName")
    assert accepted.message == "ignored: the SharedGroup of group card has the name card; delete this object"


async def test_steps_are_told_by_events_of_the_shared_group() -> None:
    """Which nothing waits for."""
    world = a_world(member("a"), a_group(turn=7))
    action = effect(as_read(world, member("a")))
    assert isinstance(action, Grant)
    spawned: list[Any] = []
    runtime = a_runtime("arbiter", cluster=world, spawn_background=spawned.append)
    await perform(runtime, action, telemetry=Telemetry())
    for work in spawned:
        await work
    [told] = [thing for (kind, *_), thing in world.things.items() if kind == "events"]
    assert (told["reason"], told["message"]) == (GRANTED, "turn 8 granted to a on node a (GPU-1)")
    assert told["involvedObject"]["kind"] == "SharedGroup"


async def test_a_released_holder_of_two_leaves_the_other_alone() -> None:
    """Each entry goes its own way."""
    holders = [a_holder(name, turn=turn, devices=("GPU-1",)) for name, turn in (("a", 4), ("b", 5))]
    world = a_world(member("a", IDLE), member("b"), a_group(*holders))
    await performed(world, effect(as_read(world, member("a", IDLE), member("b"))))
    steps = {holder.model: holder.step for holder in the_group(world).status.holders}
    assert steps == {"a": RELEASING, "b": GRANTED}


async def test_a_group_of_an_api_server_that_was_restored_counts() -> None:
    """The arbiter knows a grant of its own that the stream never delivered, and that the API server has lost."""
    world = a_world(member("a", IDLE), a_group(turn=2))
    later_version = the_group(world).metadata.version + 30
    lost = a_group(a_holder("a", turn=3, devices=("GPU-1",)), version=later_version)
    state = a_state(lost, member("a", IDLE))
    replies = await performed(world, effect(state))
    assert [type(reply).__name__ for reply in replies] == ["GroupRestored"]
    assert later(state, NOW + 1, *replies).groups["default/card"].status.holders == ()
