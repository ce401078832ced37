"""The status writer: full sets of fields, the version that they were decided from, and conflicts."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, Model, ModelStatus
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.status import GrantedStatus, MonotonicTime, PlacedStatus, ReadyStatus, WantedStatus
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import EVENTS, ConflictError, InvalidError, Kind, NotFoundError
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus, condition
from tests.builders import a_model
from tests.runtimes import ListBus, a_runtime
from tests.simulation.loop import run


class Answers:
    """An API server whose answers to writes are scripted; reads give `now`."""

    def __init__(self, now: Model | None, *script: Exception | None) -> None:
        self.now, self.script = now, list(script)
        self.bodies: list[dict[str, Any]] = []
        self.managers: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.of_others: dict[str, Any] = {}
        """What another client has written into fields of the status, which an apply leaves there."""
        self.patches: list[Any] = []

    async def apply(self, kind: Kind[Any], namespace: str, body: Any, **options: Any) -> Model:
        """Answer the next of the script, else take the write."""
        self.bodies.append(body)
        self.managers.append(options["manager"])
        if self.script and (failure := self.script.pop(0)) is not None:
            raise failure
        base = self.now or a_model()
        metadata = msgspec.structs.replace(base.metadata, resource_version="99")
        status = msgspec.convert({"conditions": (), **self.of_others, **body.get("status", {})}, ModelStatus)
        return msgspec.structs.replace(base, metadata=metadata, status=status)

    async def patch(
        self, kind: Kind[Any], namespace: str, name: str, operations: Any, *, subresource: str
    ) -> Model:
        """Take the next of the script, else the operations."""
        assert subresource == "status"
        self.patches.append(operations)
        if self.script and (failure := self.script.pop(0)) is not None:
            raise failure
        return a_model(version=100)

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Model:
        """Return the Model as it is now."""
        if self.now is None:
            raise NotFoundError("not found", 404)
        return self.now

    async def create(self, kind: Kind[Any], namespace: str, body: Any) -> None:
        """Keep Events."""
        assert kind is EVENTS
        self.events.append(body)


def written(server: Answers, action: WriteStatus) -> tuple[list[AnyEvent], ListBus]:
    """Return the replies of a status write and the bus that it published on."""
    bus = ListBus()

    async def main() -> list[AnyEvent]:
        replies = await write_status(a_runtime(bus=bus, cluster=server), action)
        await asyncio.sleep(1)
        return replies

    return run(main()), bus


MODEL = a_model(conditions=["Accepted"], version=7)
PLACED = WriteStatus(
    model=MODEL,
    status=PlacedStatus(
        condition=condition(MODEL, conditions.PLACED, "True", Reason.PLACED, "scheduled to node a"),
        placement=Placement(node="a"),
    ),
    gates=(conditions.ACCEPTED,),
)


def test_a_status_carries_the_version_that_it_was_decided_from() -> None:
    """With its owner's full set of fields."""
    server = Answers(MODEL)
    written(server, PLACED)
    [body] = server.bodies
    assert server.managers == ["flexinfer-placer"]
    assert body["metadata"] == {"name": "llama", "resourceVersion": "7"}
    assert body["status"]["placement"] == {"node": "a"}
    assert body["status"]["conditions"][0]["lastTransitionTime"] == "2026-11-24T12:00:00Z"


def test_a_monotonic_time_is_written_as_wall_clock_time() -> None:
    """Seconds of this process's monotonic clock mean nothing to a reader."""
    status = WantedStatus(
        condition=condition(MODEL, conditions.WANTED, "False", Reason.IDLE, "idle for 60s"),
        last_active_time=MonotonicTime(-60.0),
    )
    server = Answers(MODEL)
    written(server, WriteStatus(model=MODEL, status=status))
    assert server.bodies[0]["status"]["lastActiveTime"] == "2026-11-24T11:59:00Z"


def test_an_expected_time_is_a_wall_clock_time_to_come_and_absent_while_it_is_not_known() -> None:
    """As of the moment of the write."""
    queued = condition(MODEL, conditions.GRANTED, "False", Reason.QUEUED, "queued")
    shared = GroupMembership(group="card", state="Queued", position=1)
    for at, text in ((90.0, "2026-11-24T12:01:30Z"), (None, None)):
        server = Answers(MODEL)
        status = GrantedStatus(condition=queued, shared_group=shared, expected_at=at)
        written(server, WriteStatus(model=MODEL, status=status))
        assert server.bodies[0]["status"].keys() == {"sharedGroup", "conditions"}
        assert server.bodies[0]["status"]["sharedGroup"].get("expectedTime") == text


@pytest.mark.parametrize("at", [1e12, 1e308, -1e308, math.inf])
def test_a_time_that_no_calendar_has_is_written_too(at: float) -> None:
    """A figure of others made it: a load time in a status, the idle time of a proxy. It ended the write of this status, each time."""
    idle = WantedStatus(
        condition=condition(MODEL, conditions.WANTED, "False", Reason.IDLE, "idle for 60s"),
        last_active_time=MonotonicTime(-abs(at)),
    )
    queued = GrantedStatus(
        condition=condition(MODEL, conditions.GRANTED, "False", Reason.QUEUED, "queued"),
        shared_group=GroupMembership(group="card", state="Queued", position=1),
        expected_at=at,
    )
    for status in (idle, queued):
        server = Answers(MODEL)
        written(server, WriteStatus(model=MODEL, status=status))
        assert len(server.bodies) == 1


def test_a_transition_is_followed_by_a_hint_history_and_an_event() -> None:
    """The hint at once, for the next component; the rest in the background, for people."""
    server = Answers(MODEL)
    _, bus = written(server, PLACED)
    hint, history = bus.published
    assert hint == events.StatusChanged(
        owner="placer", namespace="default", name="llama", uid="uid-llama", version=99
    )
    assert isinstance(history, events.HistoryRecorded)
    assert (history.step, history.reason) == ("Placed=True", "Placed")
    [event] = server.events
    assert event["involvedObject"]["uid"] == "uid-llama"
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Placed", "scheduled to node a")


def test_events_sort_by_their_names_as_they_came() -> None:
    """Kubectl orders them by whole seconds, and within one as the API lists them: by name."""
    server = Answers(MODEL)
    written(server, PLACED)
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    assert server.events[0]["metadata"]["name"].startswith(f"llama.{int(now.timestamp() * 1000):012x}")


def test_a_conflict_with_another_owner_repeats_the_same_write() -> None:
    """The condition that changed is none that the status depends on."""
    newer = a_model(conditions=["Accepted", "Granted"], version=8)
    server = Answers(newer, ConflictError("modified", 409))
    written(server, PLACED)
    assert [body["metadata"]["resourceVersion"] for body in server.bodies] == ["7", "8"]


def test_a_conflict_with_a_new_generation_writes_nothing() -> None:
    """The caller decides again."""
    newer = a_model(conditions=["Accepted"], version=8, generation=2)
    server = Answers(newer, ConflictError("modified", 409))
    replies, _ = written(server, PLACED)
    assert len(server.bodies) == 1
    assert replies == [events.ModelObserved(model=newer)]


def test_a_conflict_in_a_gate_writes_nothing() -> None:
    """The status was decided from a condition that no longer holds."""
    newer = a_model(conditions=[("Accepted", "False", Reason.INVALID_CONFIG)], version=8)
    replies, _ = written(Answers(newer, ConflictError("modified", 409)), PLACED)
    assert replies == [events.ModelObserved(model=newer)]


def test_a_status_of_a_deleted_model_is_never_written_to_a_newer_one_of_its_name() -> None:
    """The newer one has another uid, and the API server refuses the version."""
    newer = a_model(uid="another", version=8)
    server = Answers(newer, ConflictError("modified", 409))
    replies, _ = written(server, PLACED)
    assert len(server.bodies) == 1
    assert isinstance(replies[0], events.ModelDeleted)


def test_a_write_to_a_deleted_model_returns_its_deletion() -> None:
    """404 needs no retry."""
    replies, _ = written(Answers(None, NotFoundError("not found", 404)), PLACED)
    assert replies[0] == events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=8)


def test_a_conflict_with_a_newer_leader_writes_nothing() -> None:
    """Only another replica of the owner writes this condition.

    It has decided since, even if only the message differs.
    """
    first = msgspec.structs.replace(PLACED.condition, message="scheduled to node b")
    newer = a_model(conditions=["Accepted"], version=8)
    status = msgspec.structs.replace(newer.status, conditions=(*newer.status.conditions, first))
    newer = msgspec.structs.replace(newer, status=status)
    server = Answers(newer, ConflictError("modified", 409))
    replies, _ = written(server, PLACED)
    assert len(server.bodies) == 1
    assert replies == [events.ModelObserved(model=newer)]


class Keeps(Answers):
    """An API server that has an entry of another client in a list of the owner's."""

    async def apply(self, kind: Kind[Any], namespace: str, body: Any, **options: Any) -> Model:
        """Merge by key, as server-side apply does."""
        model = await super().apply(kind, namespace, body, **options)
        placement = model.status.placement or Placement()
        theirs = msgspec.structs.replace(placement, devices=placed_devices(["of another client"], 9))
        return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, placement=theirs))


def test_what_another_client_wrote_into_a_field_is_taken_out_with_the_next_write() -> None:
    """A status that was edited by hand: an apply removes only what its own manager wrote. A device that does not exist blocked its group permanently."""
    server = Keeps(MODEL)
    replies, _ = written(server, PLACED)
    assert server.patches == [
        [
            {"op": "test", "path": "/metadata/resourceVersion", "value": "99"},
            {"op": "add", "path": "/status/placement", "value": {"node": "a"}},
        ]
    ]
    assert replies == [events.ModelObserved(model=a_model(version=100))]


def test_a_field_that_its_owner_does_not_have_is_removed() -> None:
    """And what was applied is left alone."""
    server = Answers(MODEL)
    server.of_others = {"sharedGroup": {"group": "of another client"}}
    alone = GrantedStatus(
        condition=condition(MODEL, conditions.GRANTED, "True", Reason.NOT_SHARED, "not in a shared group"),
        shared_group=None,
    )
    written(server, WriteStatus(model=MODEL, status=alone))
    assert server.patches[0][1:] == [{"op": "remove", "path": "/status/sharedGroup"}]
    quiet = Answers(MODEL)
    written(quiet, WriteStatus(model=MODEL, status=alone))
    assert quiet.patches == []


def test_what_an_api_server_drops_is_not_written_again() -> None:
    """Its definition is of an earlier release: each write would be two, and change nothing."""

    class Drops(Answers):
        async def apply(self, kind: Kind[Any], namespace: str, body: Any, **options: Any) -> Model:
            model = await super().apply(kind, namespace, body, **options)
            less = Placement(node="a", devices=placed_devices(["GPU-1"], 0))
            return msgspec.structs.replace(
                model, status=msgspec.structs.replace(model.status, placement=less)
            )

    server = Drops(MODEL)
    placement = Placement(node="a", devices=placed_devices(["GPU-1"], 4000), reason="room")
    written(
        server, WriteStatus(model=MODEL, status=PlacedStatus(condition=PLACED.condition, placement=placement))
    )
    assert (len(server.bodies), server.patches) == (1, [])


def test_a_model_that_was_written_before_that_is_read_again() -> None:
    """The test of its version fails: what is to be taken out is another thing then."""
    server = Keeps(MODEL, None, InvalidError("the test failed", 422), None, None)
    written(server, PLACED)
    assert (len(server.bodies), len(server.patches)) == (2, 2)


def test_an_object_without_fields_is_left_out() -> None:
    """A real API server turns an empty object into null, and then refuses it."""
    stopped = WriteStatus(
        model=MODEL,
        status=ReadyStatus(
            condition=condition(MODEL, conditions.READY, "False", Reason.STOPPED, "stopped"),
            endpoint="http://proxy",
            backend=BackendStatus(),
        ),
    )
    server = Answers(MODEL)
    written(server, stopped)
    assert set(server.bodies[0]["status"]) == {"endpoint", "conditions"}
