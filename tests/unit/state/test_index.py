"""The index of the observed state: which Models take something on a node, and which nodes are busy."""

import msgspec

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import Gpu
from flexinfer.events import events
from flexinfer.state.apply import apply_events, assume, resync, settle
from flexinfer.state.index import OCCUPYING, STARTING
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_condition, a_model, a_node, a_pod, a_state, running


def after(state: ObservedState, *observed: events.AnyEvent) -> ObservedState:
    """Return the state after events."""
    return apply_events(state, [Observation(event, NOW + 1) for event in observed])


def test_a_pod_occupies_its_node_until_it_has_ended_wherever_its_model_is_scheduled_to() -> None:
    """It may have moved meanwhile, or not be placed any more."""
    model = a_model(conditions=["Accepted"])
    state = a_state(model, running(model, a_pod(model, node="b")))
    assert ({*state.under(OCCUPYING, "b")}, {*state.occupants}) == ({model.key}, {"b"})
    ended = after(state, running(model, a_pod(model, node="b", phase="Succeeded")))
    assert not ended.under(OCCUPYING, "b")
    assert not ended.occupants


def test_a_node_is_busy_while_models_start_or_run_there() -> None:
    """From the one to the other without a gap, and no longer than the last of them."""
    names = ("one", "two")
    models = [a_model(name, conditions=["Accepted", "Placed", "Wanted"]) for name in names]
    state = a_state(*models)
    assert ({*state.under(STARTING, "a")}, {*state.occupants}) == ({m.key for m in models}, {"a"})
    state = after(state, running(models[0], a_pod(models[0])))
    assert {*state.occupants} == {"a"}
    gone = [
        event
        for m in models
        for event in (
            events.ModelDeleted(namespace="default", name=m.metadata.name, uid=m.uid, version=9),
            events.WorkloadDeleted(namespace="default", name=m.metadata.name),
        )
    ]
    assert {*after(state, *gone[:2]).occupants} == {"a"}
    assert not after(state, *gone).occupants


def test_a_node_is_grouped_while_models_of_a_group_are_scheduled_to_it() -> None:
    """By their spec, or by a status that still names the group; also while a write is in flight, and until the last one is gone."""
    member = a_model("one", gpu=Gpu(vendor="nvidia", shared="x"), conditions=["Accepted", "Placed"])
    alone = a_model("two", gpu=Gpu(vendor="nvidia"), conditions=["Accepted", "Placed"])
    state = a_state(member, alone)
    assert {node: {*keys} for node, keys in state.grouped.items()} == {"a": {member.key}}
    status = msgspec.structs.replace(alone.status, shared_group=GroupMembership(group="x"))
    leaving = msgspec.structs.replace(alone, status=status)
    both = assume(state, leaving)
    assert {*both.grouped_on("a")} == {member.key, alone.key}
    assert {*settle(both, alone.key).grouped_on("a")} == {member.key}
    refused = msgspec.structs.replace(
        member.status, conditions=(a_condition("Accepted"), a_condition("Placed", "False"))
    )
    assert not assume(state, msgspec.structs.replace(member, status=refused)).grouped
    deleted = events.ModelDeleted(namespace="default", name="one", uid=member.uid, version=9)
    assert not after(state, deleted).grouped


def test_a_node_is_known_since_it_was_first_seen_also_after_a_replay() -> None:
    """Until it is deleted."""
    state = a_state(a_node("a"))
    state = after(state, events.NodeObserved(name="a", node=a_node("a", version=2)))
    assert state.node_since == {"a": NOW}
    replayed = resync(state, [Observation(events.NodeObserved(name="a", node=a_node("a")), NOW + 5)], NOW + 5)
    assert replayed.node_since == {"a": NOW}
    assert after(state, events.NodeDeleted(name="a")).node_since == {}
    assert resync(state, [], NOW + 5).node_since == {}
