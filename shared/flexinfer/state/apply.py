"""apply_events: the observed state after events. Pure.

A batch of events copies only the maps that it changes. Models and nodes are ordered by resourceVersion, so
replies of the API server and messages of NATS may mix in any order. What was observed as deleted comes back
only with a version above that of its deletion, which no deleted object ever has.
"""

from collections.abc import Iterable

import msgspec

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.state.draft import Draft
from flexinfer.state.observed import Observation, ObservedState
from flexinfer.state.precedence import streamed_group, streamed_lease


def apply_events(state: ObservedState, observations: Iterable[Observation]) -> ObservedState:
    """Return the state after the observations, applied in their order; the same object if nothing changed."""
    draft = Draft(state)
    for observation in observations:
        draft.apply(observation)
    return draft.result(state)


def resync(previous: ObservedState, snapshot: Iterable[Observation], now: float) -> ObservedState:
    """Return the state of a replay, with newer replies of the API server and what no stream holds.

    Telemetry is in the memory of NATS alone: a node's last sample stays, with its age, until the next one arrives.

    A Model, SharedGroup or GPULease that the replay holds in an older version than a reply told stays as the reply told it, unless the stream
    itself had delivered a newer one: then the API server was restored to an older state, which counts.
    """
    start = ObservedState(
        first_seen=previous.first_seen,
        node_since=previous.node_since,
        deleted_versions=previous.deleted_versions,
        streamed_versions=previous.streamed_versions,
        changed_at=previous.changed_at,
        step_since=previous.step_since,
        released_at=previous.released_at,
        lease_ends=previous.lease_ends,
        wakes=previous.wakes,
        lost_pods=previous.lost_pods,
        gpus=previous.gpus,
        connected_since=now,
        caught_up_at=previous.caught_up_at,
    )
    draft = Draft(start, previous=previous.models)
    for observation in snapshot:
        draft.apply(observation)
    for key, workload in previous.workloads.items():
        draft.lose(key, workload)
    _keep_replies(previous, draft, now)
    for key, model in previous.assumed.items():
        if key in draft.models.read() and draft.models.read()[key].uid == model.uid:
            draft.assume(model)
    return _without_deleted(draft.result(start))


def _keep_replies(previous: ObservedState, draft: Draft, now: float) -> None:
    """Apply what replies said of objects that the replay holds too, unless the stream went back."""
    for key, model in previous.models.items():
        if key in draft.models.read() and not _went_back(previous, draft, key):
            draft.apply(Observation(events.ModelObserved(model=model), now, reply=True))
    for key, group in previous.groups.items():
        if key in draft.groups.read() and not _went_back(previous, draft, streamed_group(key)):
            draft.apply(Observation(events.GroupObserved(group=group), now, reply=True))
    for key, lease in previous.leases.items():
        if key in draft.leases.read() and not _went_back(previous, draft, streamed_lease(key)):
            draft.apply(Observation(events.LeaseObserved(lease=lease), now, reply=True))


def _went_back(previous: ObservedState, draft: Draft, key: str) -> bool:
    """Return whether the stream holds an older version than it delivered before: the API server was restored to that."""
    return draft.streamed_versions.read().get(key, 0) < previous.streamed_versions.get(key, 0)


def _without_deleted(state: ObservedState) -> ObservedState:
    """Drop what belongs to Models that the replay does not hold."""
    leases = {lease.uid for lease in state.leases.values()}
    uids = leases | {model.uid for model in state.models.values()}
    return msgspec.structs.replace(
        state,
        first_seen={uid: at for uid, at in state.first_seen.items() if uid in uids},
        node_since={name: at for name, at in state.node_since.items() if name in state.nodes},
        lease_ends={uid: end for uid, end in state.lease_ends.items() if uid in leases},
        changed_at={uid: at for uid, at in state.changed_at.items() if uid in uids},
        wakes={key: wake for key, wake in state.wakes.items() if key in state.models},
        lost_pods={key: pods for key, pods in state.lost_pods.items() if key in state.models},
        step_since={pair: since for pair, since in state.step_since.items() if pair[0] in state.groups},
        released_at={key: at for key, at in state.released_at.items() if key in state.groups},
        gpus={node: sample for node, sample in state.gpus.items() if node in state.nodes},
    )


def assume(state: ObservedState, model: Model) -> ObservedState:
    """Return the state that counts a Model as it will be once the write in flight has arrived."""
    draft = Draft(state)
    draft.assume(model)
    return draft.result(state)


def settle(state: ObservedState, key: str) -> ObservedState:
    """Return the state without what was assumed of a Model: its write has ended."""
    draft = Draft(state)
    draft.settle(key)
    return draft.result(state)
