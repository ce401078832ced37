"""apply_events: the same state for any order and any repetition of the events."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions
from flexinfer.api.model import Gpu
from flexinfer.api.placement import Placement
from flexinfer.api.sharedgroup import RELEASING
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import PodFacts
from flexinfer.state.apply import apply_events, assume, resync, settle
from flexinfer.state.index import entries
from flexinfer.state.observed import HEARTBEAT_GAP, Observation, ObservedState
from tests.builders import NOW, a_condition, a_group, a_holder, a_lease, a_model, a_node, a_state


def applied(*facts: AnyEvent, at: float = NOW, reply: bool = False) -> ObservedState:
    """Return the state after the events, in this order; `reply`: the API server returned them."""
    return apply_events(ObservedState(), [Observation(fact, at, reply) for fact in facts])


versions = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(versions, st.randoms(use_true_random=False))
def test_the_newest_version_wins_in_any_order(seen: list[int], chance: random.Random) -> None:
    """Replies of the API server and messages of NATS may mix."""
    streamed = [Observation(events.ModelObserved(model=a_model(version=v)), NOW) for v in sorted(seen)]
    replies = [Observation(one.event, NOW, reply=True) for one in streamed]
    chance.shuffle(replies)
    mixed = [*streamed]
    for reply in replies:
        mixed.insert(chance.randrange(len(mixed) + 1), reply)
    state = apply_events(ObservedState(), mixed)
    assert state.models["default/llama"].metadata.version == max(seen)


def test_a_stream_that_goes_back_tells_of_a_restored_api_server() -> None:
    """Whatever a reply had told: the older version is the one that counts now."""
    state = applied(events.ModelObserved(model=a_model(version=5)))
    newer = events.ModelObserved(model=a_model(version=9))
    state = apply_events(state, [Observation(newer, NOW, reply=True)])
    for version in (7, 4):
        observed = events.ModelObserved(model=a_model(version=version))
        state = apply_events(state, [Observation(observed, NOW)])
        assert state.models["default/llama"].metadata.version == {7: 9, 4: 4}[version]


def test_a_deleted_model_of_a_restored_api_server_is_there_again() -> None:
    """Its uid is the same, and its version below that of the deletion."""
    gone = events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=9)
    state = applied(events.ModelObserved(model=a_model(version=5)), gone)
    assert not state.models
    state = apply_events(state, [Observation(events.ModelObserved(model=a_model(version=4)), NOW)])
    assert state.models["default/llama"].metadata.version == 4


def test_a_reply_of_a_restored_api_server_wins_over_memory() -> None:
    """A GET after a conflict returned a version below the known one."""
    state = applied(events.ModelObserved(model=a_model(version=5)))
    restored = events.ModelRestored(model=a_model(version=3))
    state = apply_events(state, [Observation(restored, NOW, reply=True)])
    assert state.models["default/llama"].metadata.version == 3


def test_a_namesake_inherits_no_time_of_its_former() -> None:
    """Times are kept by uid."""
    first = a_model(uid="old", version=2, conditions=[(conditions.READY, "False", "Stopped")])
    second = a_model(uid="new", version=5, conditions=[(conditions.READY, "False", "Stopped")])
    state = applied(events.ModelObserved(model=first))
    state = apply_events(state, [Observation(events.ModelObserved(model=second), NOW + 60)])
    assert state.changed(second, conditions.READY) == NOW + 60
    assert state.changed(first, conditions.READY) is None


def test_a_replay_keeps_the_time_of_what_did_not_change_and_dates_what_did() -> None:
    """It tells nothing of when the conditions changed."""
    model = a_model(
        version=2, conditions=[(conditions.READY, "False", "Stopped"), (conditions.WANTED, "True", "Active")]
    )
    later = a_model(
        version=3, conditions=[(conditions.READY, "True", "Ready"), (conditions.WANTED, "True", "Active")]
    )
    before = applied(events.ModelObserved(model=model))
    state = resync(before, [Observation(events.ModelObserved(model=later), NOW + 50)], NOW + 50)
    assert state.changed(later, conditions.WANTED) == NOW
    assert state.changed(later, conditions.READY) == NOW + 50


def test_a_replay_keeps_what_the_api_server_told_since() -> None:
    """A reply may be newer than the stream."""
    before = apply_events(
        ObservedState(), [Observation(events.ModelObserved(model=a_model(version=9)), NOW, reply=True)]
    )
    state = resync(before, [Observation(events.ModelObserved(model=a_model(version=7)), NOW)], NOW)
    assert state.models["default/llama"].metadata.version == 9


def with_pods(*uids: str) -> events.WorkloadObserved:
    """Return the workload of the Model with these Pods."""
    pods = tuple(PodFacts(name="llama-0", uid=uid) for uid in uids)
    return events.WorkloadObserved(namespace="default", name="llama", pods=pods)


def test_a_pod_that_a_workload_had_is_known_to_be_lost() -> None:
    """By a later message, by its deletion, and by a replay without it; a deleted Model has none."""
    model = events.ModelObserved(model=a_model())
    gone = events.WorkloadDeleted(namespace="default", name="llama")
    lost = {"default/llama": frozenset({"a"})}
    assert applied(model, with_pods("a"), with_pods("b")).lost_pods == lost
    assert applied(model, with_pods("a"), gone, with_pods("b")).lost_pods == lost
    before = applied(model, with_pods("a"))
    assert resync(before, [Observation(model, NOW)], NOW).lost_pods == lost
    assert not resync(before, [Observation(model, NOW), Observation(with_pods("a"), NOW)], NOW).lost_pods
    deleted = events.ModelDeleted(namespace="default", name="llama", uid=model.model.uid, version=9)
    assert not applied(model, with_pods("a"), gone, deleted).lost_pods
    assert not resync(applied(model, with_pods("a"), gone), [], NOW).lost_pods


def test_a_replay_that_goes_back_tells_of_a_restored_api_server() -> None:
    """The stream had delivered a newer version before: what replies told since is void as well."""
    before = applied(events.ModelObserved(model=a_model(version=8)))
    before = apply_events(
        before, [Observation(events.ModelObserved(model=a_model(version=9)), NOW, reply=True)]
    )
    state = resync(before, [Observation(events.ModelObserved(model=a_model(version=4)), NOW)], NOW)
    assert state.models["default/llama"].metadata.version == 4


def test_a_replay_that_goes_back_counts_for_a_shared_group_too() -> None:
    """A grant of before the restore is void: the arbiter would take the group for held, and the launcher finds no turn."""
    before = applied(events.GroupObserved(group=a_group(a_holder(), version=9)))
    restored = events.GroupObserved(group=a_group(version=4))
    assert resync(before, [Observation(restored, NOW)], NOW).group("default", "card") == restored.group
    told = events.GroupObserved(group=a_group(a_holder(), version=12))
    before = apply_events(before, [Observation(told, NOW, reply=True)])
    same = events.GroupObserved(group=a_group(version=9))
    assert resync(before, [Observation(same, NOW)], NOW).group("default", "card") == told.group


def test_a_replay_keeps_the_last_sample_of_a_node_until_the_next_one() -> None:
    """A restart of NATS empties its memory; the agent publishes again within seconds, and until then it is known what is in use."""
    sample, node = (
        events.GpusObserved(node="a", boot="b", sample=1),
        events.NodeObserved(name="a", node=a_node("a")),
    )
    previous = applied(node, sample, events.GpusObserved(node="gone", boot="b", sample=1))
    state = resync(previous, [Observation(node, NOW + 5)], NOW + 5)
    assert dict(state.gpus) == {"a": previous.gpus["a"]}, "that of a node that is gone goes with it"
    newer = msgspec.structs.replace(sample, sample=2)
    state = resync(previous, [Observation(node, NOW + 5), Observation(newer, NOW + 4)], NOW + 5)
    assert state.gpus["a"].observed.sample == 2


def test_a_sample_is_as_old_as_its_agent_says() -> None:
    """An agent that was paused between its look and its message tells an old look as new."""
    sample = events.GpusObserved(node="a", boot="b", sample=1, age_seconds=40.0)
    assert applied(sample).gpus["a"].at == NOW - 40
    assert applied(msgspec.structs.replace(sample, age_seconds=-40.0)).gpus["a"].at == NOW


def test_a_sample_that_is_heard_again_is_as_old_as_it_was() -> None:
    """A replay after a step of the NATS server's clock does not know the ages of what it replays."""
    sample = events.GpusObserved(node="a", boot="b", sample=1)
    state = apply_events(applied(sample), [Observation(sample, NOW - 30)])
    assert state.gpus["a"].at == NOW
    other = msgspec.structs.replace(sample, boot="c")
    assert apply_events(state, [Observation(other, NOW - 30)]).gpus["a"].at == NOW - 30


def test_a_node_of_a_restored_api_server_counts() -> None:
    """The stream delivers its versions in their order."""
    newer, older = a_node(version=9, ready="Unknown"), a_node(version=4, ready="True")
    state = applied(*(events.NodeObserved(name="a", node=node) for node in (newer, older)))
    assert state.nodes["a"].ready == "True"


def test_a_model_counts_as_it_will_be_while_its_write_is_in_flight() -> None:
    """It is found on its new node by other decisions, and on the former one once the write has failed."""
    model = a_model(version=2)
    moved = msgspec.structs.replace(model.status, placement=Placement(node="new"))
    state = assume(applied(events.ModelObserved(model=model)), msgspec.structs.replace(model, status=moved))
    assert state.on_node("new") == {"default/llama"}
    assert state.models["default/llama"] == model
    assert settle(state, "default/llama").on_node("new") == frozenset()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["", "g", "h"]), st.sampled_from(["", "n"]), st.booleans()
        ),
        max_size=30,
    )
)
def test_the_index_is_that_of_the_models(history: list[tuple[str, str, str, bool]]) -> None:
    """However it came about, by events, by assumptions and by their ends."""
    state = ObservedState()
    for version, (name, group, node, assumed) in enumerate(history, start=1):
        model = a_model(name, version=version, gpu=Gpu(vendor="nvidia", shared=group) if group else None)
        status = msgspec.structs.replace(model.status, placement=Placement(node=node) if node else None)
        model = msgspec.structs.replace(model, status=status)
        if assumed and model.key in state.models:
            state = assume(state, model)
        else:
            state = settle(
                apply_events(state, [Observation(events.ModelObserved(model=model), NOW)]), model.key
            )
    expected: dict[tuple[str, str], set[str]] = {}
    for key in state.models:
        for entry in entries(state.effective(key)):  # type: ignore[arg-type] # it is there
            expected.setdefault(entry, set()).add(key)
    assert dict(state.index) == expected


def test_a_deleted_model_stays_deleted_and_a_newer_one_of_its_name_appears() -> None:
    """A deletion is of a uid."""
    old, new = a_model(uid="old", version=5), a_model(uid="new", version=9)
    gone = events.ModelDeleted(namespace="default", name="llama", uid="old", version=6)
    state = applied(events.ModelObserved(model=old), gone)
    late = Observation(events.ModelObserved(model=old), NOW, reply=True)
    assert not apply_events(state, [late]).models
    state = apply_events(state, [Observation(events.ModelObserved(model=new), NOW)])
    assert state.models["default/llama"].uid == "new"


def test_a_model_that_was_wrongly_reported_as_deleted_returns_with_its_next_version() -> None:
    """No message may hide a Model permanently: what exists after its deletion was not deleted."""
    wrong = events.ModelDeleted(namespace="default", name="llama", uid="u", version=6)
    state = applied(events.ModelObserved(model=a_model(uid="u", version=5)), wrong)
    assert not state.models
    state = apply_events(state, [Observation(events.ModelObserved(model=a_model(uid="u", version=7)), NOW)])
    assert state.models["default/llama"].metadata.version == 7


def test_a_late_deletion_does_not_affect_a_newer_model_of_that_name() -> None:
    """The deletion names a uid."""
    new = a_model(uid="new", version=9)
    gone = events.ModelDeleted(namespace="default", name="llama", uid="old", version=6)
    assert applied(events.ModelObserved(model=new), gone).models["default/llama"].uid == "new"


def test_a_deletion_takes_what_is_older_whatever_its_uid() -> None:
    """A publisher that finds none may have seen another before, or not even know which."""
    recreated = events.ModelObserved(model=a_model(uid="second", version=7))
    for uid in ("first", ""):
        gone = events.ModelDeleted(namespace="default", name="llama", uid=uid, version=8)
        state = apply_events(applied(recreated, reply=True), [Observation(gone, NOW)])
        assert not state.models
        state = apply_events(state, [Observation(recreated, NOW, reply=True)])
        assert not state.models, "a late reply brought it back"
        older = msgspec.structs.replace(gone, version=6)
        state = apply_events(applied(recreated, reply=True), [Observation(older, NOW)])
        assert state.models["default/llama"].uid == "second"


def test_a_newer_model_of_the_same_name_inherits_nothing() -> None:
    """When the previous Model was first seen is dropped with it."""
    state = applied(
        events.ModelObserved(model=a_model(uid="old", version=5)),
        events.ModelObserved(model=a_model(uid="new", version=9)),
    )
    assert list(state.first_seen) == ["new"]


def test_no_events_change_nothing() -> None:
    """The same object: deciding on it again gives the same."""
    state = a_state(a_model(), a_node())
    assert apply_events(state, []) is state


def test_the_previous_state_is_not_changed() -> None:
    """An observed state is a value."""
    state = a_state(a_model())
    apply_events(
        state, [Observation(events.ModelDeleted(namespace="default", name="llama", uid="uid-llama"), NOW)]
    )
    assert "default/llama" in state.models


def test_a_change_of_a_condition_is_dated_by_the_readers_own_clock() -> None:
    """A rewritten message or generation does not count as a change; another reason does."""
    first = a_model(version=1, conditions=[a_condition(conditions.READY)])
    again = a_model(
        version=2, conditions=[msgspec.structs.replace(a_condition(conditions.READY), message="new")]
    )
    other = a_model(version=3, conditions=[("Ready", "False", "Stopped")])
    state = applied(events.ModelObserved(model=first))
    state = apply_events(state, [Observation(events.ModelObserved(model=again), NOW + 5)])
    assert state.changed(first, conditions.READY) == NOW
    state = apply_events(state, [Observation(events.ModelObserved(model=other), NOW + 9)])
    assert state.changed(first, conditions.READY) == NOW + 9


def test_the_last_request_is_dated_by_its_age() -> None:
    """Events carry ages, not the times of other clocks."""
    state = applied(
        events.ActivityObserved(
            proxy="p", namespace="default", name="llama", uid="u", idle_seconds=7.0, in_flight=0, waiting=0
        )
    )
    assert state.activity["default/llama"]["p"].last == NOW - 7
    assert state.proxies["p"].last == NOW


def test_a_heartbeat_whose_age_is_too_high_does_not_make_a_proxy_late() -> None:
    """The server's clock was set: what is delivered later is not older."""
    state = apply_events(ObservedState(), [Observation(events.ProxyObserved(proxy="p", version=1), NOW)])
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p", version=2), NOW - 8)])
    heard = state.proxies["p"]
    assert (heard.last, heard.since, heard.version, heard.version_at) == (NOW, NOW, 2, NOW)


def test_a_gap_in_the_heartbeats_of_a_proxy_starts_a_new_period() -> None:
    """What happened during the gap cannot be observed."""
    state = applied(events.ProxyObserved(proxy="p"))
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p"), NOW + 5)])
    assert state.proxies["p"].since == NOW
    late = NOW + 5 + HEARTBEAT_GAP + 1
    state = apply_events(state, [Observation(events.ProxyObserved(proxy="p"), late)])
    assert state.proxies["p"].since == late


def test_an_older_shared_group_is_ignored() -> None:
    """A reply of the API server and a message of the stream may come in any order."""
    old, new = (events.GroupObserved(group=g) for g in (a_group(a_holder(), version=3), a_group(version=4)))
    state = apply_events(ObservedState(), [Observation(new, NOW, reply=True), Observation(old, NOW)])
    assert state.group("default", "card") == new.group
    assert not state.holding


def test_a_shared_group_that_was_deleted_is_absent() -> None:
    """With who holds it, and since when; an older message does not bring it back."""
    held = events.GroupObserved(group=a_group(a_holder(step=RELEASING), version=3))
    state = applied(held)
    assert (dict(state.holding), state.leaving) == (
        {"uid-llama": ("default/card",)},
        frozenset({"default/card"}),
    )
    gone = events.GroupDeleted(namespace="default", name="card", uid="uid-group-card", version=9)
    state = apply_events(state, [Observation(gone, NOW), Observation(held, NOW, reply=True)])
    assert not (state.groups or state.holding or state.leaving or state.step_since)


def test_a_deletion_of_a_former_shared_group_takes_what_is_older() -> None:
    """It was made again and deleted again before it was published."""
    held = events.GroupObserved(group=a_group(a_holder(), version=3))
    gone = events.GroupDeleted(namespace="default", name="card", uid="former", version=4)
    state = apply_events(
        applied(held, reply=True), [Observation(gone, NOW), Observation(held, NOW, reply=True)]
    )
    assert not (state.groups or state.holding)


def test_a_shared_group_of_a_restored_api_server_counts() -> None:
    """Its version is below the one that the stream delivered before."""
    later, restored = a_group(version=9), a_group(a_holder(), version=3)
    state = applied(events.GroupObserved(group=later), events.GroupObserved(group=restored))
    assert state.group("default", "card") == restored


def test_the_newest_version_of_a_lease_counts() -> None:
    """A reply of the API server and a message of the stream may come in any order."""
    old, new = (events.LeaseObserved(lease=a_lease(version=version)) for version in (3, 4))
    state = apply_events(ObservedState(), [Observation(new, NOW, reply=True), Observation(old, NOW)])
    assert dict(state.leases) == {"default/game": new.lease}
    assert set(state.leases_of("default", "card")) == {"default/game"}


def test_a_lease_that_was_deleted_is_absent() -> None:
    """With when it ends; an older message does not bring it back."""
    told = events.LeaseObserved(lease=a_lease(version=3))
    timed = events.LeaseTimed(
        namespace="default", name="game", uid="uid-lease-game", expires_at="x", remaining_seconds=9.0
    )
    gone = events.LeaseDeleted(namespace="default", name="game", uid="uid-lease-game", version=9)
    state = applied(told, timed)
    assert state.lease_ends["uid-lease-game"].at == NOW + 9.0
    state = apply_events(state, [Observation(gone, NOW), Observation(told, NOW, reply=True)])
    assert not (state.leases or state.lease_ends or state.leases_of("default", "card"))


def test_a_lease_of_a_restored_api_server_counts() -> None:
    """By the stream, which had delivered a newer version, and by a reply that says so."""
    newer, older = events.LeaseObserved(lease=a_lease(version=9)), a_lease(version=3)
    state = applied(newer, events.LeaseObserved(lease=older))
    assert state.leases["default/game"] == older
    state = apply_events(applied(newer), [Observation(events.LeaseRestored(lease=older), NOW, reply=True)])
    assert state.leases["default/game"] == older


def test_a_replay_keeps_what_a_reply_told_of_a_lease() -> None:
    """Unless the stream went back."""
    streamed, reply = (
        events.LeaseObserved(lease=a_lease(version=4)),
        events.LeaseObserved(lease=a_lease(version=6)),
    )
    before = apply_events(applied(streamed), [Observation(reply, NOW, reply=True)])
    assert resync(before, [Observation(streamed, NOW)], NOW).leases["default/game"] == reply.lease
    older = events.LeaseObserved(lease=a_lease(version=2))
    assert resync(before, [Observation(older, NOW)], NOW).leases["default/game"] == older.lease
    assert not resync(before, [], NOW).leases
