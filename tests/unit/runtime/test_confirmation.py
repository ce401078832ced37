"""What the stream does not confirm is read again: a Model that only a reply reported, and one that is taken for deleted."""

import asyncio
from typing import Any

import pytest

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.confirmation import CONFIRM_SECONDS, Confirmation
from flexinfer.runtime.control_loop import run_controller
from flexinfer.runtime.controller import Controller, no_effects, stateless
from flexinfer.runtime.kubernetes.api import Kind, NotFoundError
from flexinfer.runtime.runtime import Snapshot, Subscriptions
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from flexinfer.state.touched import touches_its_model
from tests.builders import NOW, a_group, a_lease, a_model
from tests.runtimes import ListBus, a_runtime
from tests.simulation.loop import run


class Api:
    """A cluster that answers GETs."""

    def __init__(self, *objects: Model | SharedGroup | GPULease) -> None:
        self.objects = {each.metadata.name: each for each in objects}
        self.reads = 0

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        """Return an object. Raises NotFoundError."""
        self.reads += 1
        if name not in self.objects:
            raise NotFoundError(f"{kind.plural} {namespace}/{name} not found", 404)
        return self.objects[name]


def told(version: int, *, reply: bool) -> Observation:
    """Return an observation of the Model in a version, by a reply or by the stream."""
    return Observation(events.ModelObserved(model=a_model(version=version)), NOW, reply=reply)


def versions(api: Api, *deliveries: Any, seconds: float = 2 * CONFIRM_SECONDS + 1) -> dict[str, int]:
    """Return the versions of the Models that a component observes some seconds after these were delivered."""
    state = observed_after(api, *deliveries, seconds=seconds)
    return {key: model.metadata.version for key, model in state.models.items()}


def observed_after(api: Api, *deliveries: Any, seconds: float = 2 * CONFIRM_SECONDS + 1) -> ObservedState:
    """Return the state that a component observes some seconds after these were delivered."""
    latest = [ObservedState()]

    async def main() -> ObservedState:
        bus = ListBus()
        for delivery in deliveries:
            bus.queue.put_nowait(delivery)
        controller: Controller[Any, Any, None] = Controller(
            name="test",
            decide=stateless(lambda _state, _key, _now: ()),
            touched=touches_its_model,
            perform=no_effects,
            subscriptions=Subscriptions(),
            memory=None,
            observers=(lambda state, _memory: latest.__setitem__(0, state),),
        )
        task = asyncio.create_task(run_controller(a_runtime(bus=bus, cluster=api), controller))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return latest[0]

    return run(main())


def test_a_model_that_the_stream_never_delivers_and_the_api_server_does_not_have_is_dropped() -> None:
    """It was created and deleted while NATS was unavailable, or a reply arrived after its deletion."""
    assert versions(Api(), Snapshot([]), told(9, reply=True)) == {}
    assert versions(Api(), Snapshot([]), told(9, reply=True), seconds=CONFIRM_SECONDS + 1) == {
        "default/llama": 9
    }


def test_a_reply_of_before_a_restore_gives_way_to_what_the_api_server_has() -> None:
    """The stream had not delivered it, and so does not go back."""
    deliveries = (Snapshot([told(5, reply=False)]), told(9, reply=True))
    assert versions(Api(a_model(version=5)), *deliveries) == {"default/llama": 5}


@pytest.mark.parametrize(
    ("observed", "restored", "kind"),
    [
        (
            [events.GroupObserved(group=a_group(version=version)) for version in (5, 9)],
            a_group(version=5),
            "groups",
        ),
        (
            [events.LeaseObserved(lease=a_lease(version=version)) for version in (5, 9)],
            a_lease(version=5),
            "leases",
        ),
    ],
)
def test_a_group_or_lease_of_before_a_restore_gives_way_too(
    observed: list[AnyEvent], restored: SharedGroup | GPULease, kind: str
) -> None:
    """NATS was away while it was written, so that the stream holds what the restored API server has."""
    streamed, replied = observed
    deliveries = (Snapshot([Observation(streamed, NOW)]), Observation(replied, NOW, reply=True))

    def version(api: Api) -> list[int]:
        state = observed_after(api, *deliveries)
        return [each.metadata.version for each in getattr(state, kind).values()]

    assert version(Api(restored)) == [5]
    assert version(Api()) == []


def test_a_model_that_is_taken_for_deleted_and_that_the_stream_delivers_is_read() -> None:
    """The API server that had deleted it was restored to a state before that."""
    gone = Observation(
        events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=9), NOW
    )
    back = told(4, reply=False)
    deliveries = (Snapshot([]), Observation(gone.event, NOW, reply=True), back)
    assert versions(Api(a_model(version=4)), *deliveries) == {"default/llama": 4}
    assert versions(Api(), *deliveries) == {}


def test_what_the_stream_confirms_is_not_read() -> None:
    """As it does within milliseconds."""
    api = Api(a_model(version=9))
    assert versions(api, Snapshot([]), told(9, reply=True), told(9, reply=False)) == {"default/llama": 9}
    assert api.reads == 0


def test_so_many_are_read_at_a_time_and_each_in_its_turn() -> None:
    """A watcher that is away leaves everything unconfirmed."""
    state, confirmation = ObservedState(), Confirmation()
    for index in range(50):
        model = a_model(f"m{index:02}", version=index + 1)
        state = apply_events(state, [Observation(events.ModelObserved(model=model), NOW, reply=True)])
        confirmation.returned(events.ModelObserved(model=model))
    assert confirmation.due(state) == []
    turns = [confirmation.due(state) for _ in range(3)]
    assert [len(turn) for turn in turns] == [20, 20, 20]
    assert set(turns[0]).isdisjoint(turns[1])
    assert len({key for turn in turns for key in turn}) == 50
