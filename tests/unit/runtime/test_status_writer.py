"""Reporting: the full set, on the version it was decided from, and what happens on a conflict."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import BackendStatus, Model, Placement
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import EVENTS, ConflictError, Kind, NotFoundError
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import MonotonicTime, WriteStatus, condition
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

    async def apply(self, kind: Kind[Any], namespace: str, body: Any, **options: Any) -> Model:
        """Answer the next of the script, else take the write."""
        self.bodies.append(body)
        self.managers.append(options["manager"])
        if self.script and (failure := self.script.pop(0)) is not None:
            raise failure
        base = self.now or a_model()
        said = msgspec.convert(body.get("status", {}).get("conditions", ()), tuple[Condition, ...])
        metadata = msgspec.structs.replace(base.metadata, resource_version="99")
        status = msgspec.structs.replace(base.status, conditions=said)
        return msgspec.structs.replace(base, metadata=metadata, status=status)

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Model:
        """Return the Model as it is now."""
        if self.now is None:
            raise NotFoundError("not found", 404)
        return self.now

    async def create(self, kind: Kind[Any], namespace: str, body: Any) -> None:
        """Keep Events."""
        assert kind is EVENTS
        self.events.append(body)


def told(server: Answers, action: WriteStatus, **options: Any) -> tuple[list[AnyEvent], ListBus]:
    """Return what a report gave back and what it told the bus."""
    bus = ListBus()

    async def main() -> list[AnyEvent]:
        found = await write_status(a_runtime(bus=bus, cluster=server), action, **options)
        await asyncio.sleep(1)
        return found

    return run(main()), bus


MODEL = a_model(conditions=["Accepted"], version=7)
PLACED = WriteStatus(
    model=MODEL,
    condition=condition(MODEL, conditions.PLACED, "True", Reason.PLACED, "on node a"),
    fields={"placement": Placement(node="a"), "lastActiveTime": MonotonicTime(-60.0)},
    gates=(conditions.ACCEPTED,),
)


def test_a_verdict_goes_out_with_the_version_it_was_decided_from() -> None:
    """And with its owner's full set; a moment becomes wall time."""
    server = Answers(MODEL)
    told(server, PLACED)
    [body] = server.bodies
    assert body["metadata"] == {"name": "llama", "resourceVersion": "7"}
    assert body["status"]["placement"] == {"node": "a"}
    assert body["status"]["lastActiveTime"] == "2026-11-24T11:59:00Z"
    assert body["status"]["conditions"][0]["lastTransitionTime"] == "2026-11-24T12:00:00Z"


def test_whoever_comes_next_is_told_at_once_and_people_beside_the_path() -> None:
    """A hint, a line of history, a Kubernetes Event."""
    server = Answers(MODEL)
    _, bus = told(server, PLACED)
    hint, history = bus.told
    assert hint == events.StatusChanged(
        owner="placer", namespace="default", name="llama", uid="uid-llama", version=99
    )
    assert isinstance(history, events.HistoryRecorded)
    assert (history.step, history.reason) == ("Placed=True", "Placed")
    [event] = server.events
    assert event["involvedObject"]["uid"] == "uid-llama"
    assert (event["type"], event["reason"], event["message"]) == ("Normal", "Placed", "on node a")


def test_events_sort_by_their_names_as_they_came() -> None:
    """Kubectl orders them by whole seconds, and within one as the API lists them: by name."""
    server = Answers(MODEL)
    told(server, PLACED)
    now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    assert server.events[0]["metadata"]["name"].startswith(f"llama.{int(now.timestamp() * 1000):012x}")


def test_a_manager_of_a_former_release_is_left_with_nothing() -> None:
    """First the owner takes over, then the former name applies an empty status on the version that this gave."""
    server = Answers(MODEL)
    former = {"placer": ("flexinfer-scheduler",), "launcher": ("flexinfer-starter",)}
    told(server, PLACED, former=former)
    assert server.managers == ["flexinfer-placer", "flexinfer-scheduler"]
    assert "status" not in server.bodies[1]
    assert server.bodies[1]["metadata"]["resourceVersion"] == "99"


def test_a_conflict_with_a_stranger_sends_the_same_verdict_again() -> None:
    """Somebody else's condition changed: nothing that this verdict hangs on."""
    newer = a_model(conditions=["Accepted", "Granted"], version=8)
    server = Answers(newer, ConflictError("modified", 409))
    told(server, PLACED)
    assert [body["metadata"]["resourceVersion"] for body in server.bodies] == ["7", "8"]


def test_a_conflict_with_a_new_generation_writes_nothing() -> None:
    """The decision is made anew."""
    newer = a_model(conditions=["Accepted"], version=8, generation=2)
    server = Answers(newer, ConflictError("modified", 409))
    found, _ = told(server, PLACED)
    assert len(server.bodies) == 1
    assert found == [events.ModelObserved(model=newer)]


def test_a_conflict_in_a_gate_writes_nothing() -> None:
    """What it was decided from no longer holds."""
    newer = a_model(conditions=[("Accepted", "False", Reason.INVALID_CONFIG)], version=8)
    found, _ = told(Answers(newer, ConflictError("modified", 409)), PLACED)
    assert found == [events.ModelObserved(model=newer)]


def test_a_verdict_for_a_deleted_model_never_lands_on_its_namesake() -> None:
    """The namesake has another uid, and the version is refused."""
    namesake = a_model(uid="another", version=8)
    server = Answers(namesake, ConflictError("modified", 409))
    found, _ = told(server, PLACED)
    assert len(server.bodies) == 1
    assert isinstance(found[0], events.ModelDeleted)


def test_a_model_that_is_gone_is_said_to_be_gone() -> None:
    """404 is an answer."""
    found, _ = told(Answers(None, NotFoundError("not found", 404)), PLACED)
    assert found[0] == events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=8)


def test_a_conflict_with_ones_own_successor_writes_nothing() -> None:
    """Nobody else writes this condition, so whoever did has decided since; even if only the message differs."""
    first = msgspec.structs.replace(PLACED.condition, message="on node b")
    newer = a_model(conditions=["Accepted"], version=8)
    status = msgspec.structs.replace(newer.status, conditions=(*newer.status.conditions, first))
    newer = msgspec.structs.replace(newer, status=status)
    server = Answers(newer, ConflictError("modified", 409))
    found, _ = told(server, PLACED)
    assert len(server.bodies) == 1
    assert found == [events.ModelObserved(model=newer)]


def test_an_object_whose_last_field_goes_is_left_out() -> None:
    """A real API server makes null of an emptied object, and then refuses it."""
    stopped = WriteStatus(
        model=MODEL,
        condition=condition(MODEL, conditions.READY, "False", Reason.STOPPED, "gone"),
        fields={"endpoint": "http://door", "backend": BackendStatus()},
    )
    server = Answers(MODEL)
    told(server, stopped)
    assert set(server.bodies[0]["status"]) == {"endpoint", "conditions"}
