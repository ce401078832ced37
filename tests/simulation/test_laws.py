"""Each law reports a violation that is planted before it, and nothing without one."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import MODEL_UID_LABEL, RUNNING_FINALIZER, TURN_LABEL
from flexinfer.api.reasons import Reason
from flexinfer.events import codec, events, subjects
from flexinfer.events.workload import FREED, GRANTED, RELEASING, STOPPED, GroupLease, lease_of
from flexinfer.runtime.kubernetes.api import MODELS, PODS
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import ObservedState
from localkube.apiserver.requests import Options
from localkube.apiserver.watch_cache import Change
from tests.builders import a_model
from tests.simulation.controllers import check_untouched, controllers
from tests.simulation.engine import Engine
from tests.simulation.jetstream.server import EXPECTED_HEADER
from tests.simulation.laws.base import Call, Object
from tests.simulation.laws.facts import GROUP_KIND
from tests.simulation.laws.memory import Memory
from tests.simulation.laws.streams import Streams
from tests.simulation.laws.writes import WRITES
from tests.simulation.loop import run
from tests.simulation.simulation import Simulation

UID = "00000001-0000-4000-8000-0"
Act = Callable[[Simulation], None]


def judged(*acts: Act) -> list[str]:
    """Return the problems of a simulation in which nothing happens but this."""

    async def main() -> list[str]:
        simulation = Simulation(1)
        for act in acts:
            act(simulation)
        return simulation.checker.problems

    return run(main())


def model(*said: tuple[str, str, str], version: int = 1, **status: Any) -> Object:
    """Return a Model of the store with conditions (type, status, reason)."""
    listed = [{"type": t, "status": s, "reason": r, "observedGeneration": 1} for t, s, r in said]
    return {
        "metadata": {
            "namespace": "default",
            "name": "m",
            "uid": UID,
            "resourceVersion": str(version),
            "generation": 1,
            "finalizers": [RUNNING_FINALIZER],
        },
        "spec": {"backend": "llamacpp", "source": "pvc://x/y.gguf", "serverless": {"idleTimeout": "6s"}},
        "status": {"conditions": listed, **status},
    }


def pod(turn: int, *, gated: bool = False) -> Object:
    """Return an engine Pod of the store."""
    labels = {MODEL_UID_LABEL: UID, TURN_LABEL: str(turn)}
    spec = {"schedulingGates": [{"name": f"flexinfer.ai/turn-{turn}"}]} if gated else {}
    return {"metadata": {"namespace": "default", "name": "m-0", "uid": "p", "labels": labels}, "spec": spec}


def granting(turn: int, step: str) -> Object:
    """Return the object that grants the group `g`."""
    lease = GroupLease(namespace="default", group="g", holder="m", holder_uid=UID, turn=turn, step=step)
    plain: Object = msgspec.to_builtins(lease_of(lease))
    return plain


def writes(kind: str, old: Object | None, new: Object | None) -> Act:
    """Return what writes an object at the store."""
    return lambda simulation: simulation.checker.written(Change(1, ("", kind), ("default", "m"), old, new))


def calls(verb: str, body: Any, component: str = "reaper", kind: Any = MODELS) -> Act:
    """Return what lets a component write, accepted by the API server."""
    call = Call(component, f"{component}-local", verb, kind, "default", "m", body)
    return lambda simulation: simulation.checker.called(call, a_model("m"))


def an_engine(**fields: Any) -> Engine:
    """Return an engine of the Model."""
    return Engine(
        pod="p", model="default/m", holder=(UID, "1"), group="default/g", node="a", address="x", **fields
    )


def has(engine: Engine) -> Act:
    """Return what gives the machines an engine."""
    return lambda simulation: simulation.machines.engines.update({engine.pod: engine})


def _ends(simulation: Simulation) -> None:
    simulation.checker.end_history()


def _create_service(simulation: Simulation) -> None:
    for kind, body in (
        ("namespaces", {"kind": "Namespace", "metadata": {"name": "default"}}),
        ("services", {"kind": "Service", "metadata": {"name": "m", "labels": {MODEL_UID_LABEL: UID}}}),
    ):
        namespace = "default" if kind == "services" else None
        extra = {"spec": {"type": "ExternalName", "externalName": "x.y"}} if namespace else {}
        resource = simulation.named("", "v1", kind)
        simulation.store.create(resource, namespace, {"apiVersion": "v1", **body, **extra}, Options())


READY = (conditions.READY, "True", Reason.READY)
WANTED = (conditions.WANTED, "True", Reason.REQUESTED)
IDLE = (conditions.WANTED, "False", Reason.IDLE)
LOADING = (conditions.READY, "False", Reason.LOADING)
AT_REST = (conditions.READY, "False", Reason.STOPPED)


def _passes(seconds: float) -> Act:
    def later(simulation: Simulation) -> None:
        now = simulation.clock() + seconds
        simulation.checker.clock = lambda: now

    return later


def _has_a_request(simulation: Simulation) -> None:
    known = msgspec.convert(model() | {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model"}, MODELS.type)
    simulation.checker.requests.received("1", known, "proxy")


def _follows(old: Object, new: Object) -> tuple[Act, Act]:
    return writes("models", None, old), writes("models", old, new)


PLANTED: dict[str, tuple[str, tuple[Act, ...]]] = {
    "a status without the version that it was decided from": (
        "without the resourceVersion",
        (calls("apply", {"metadata": {}, "status": {"conditions": [{"type": "Wanted", "status": "True"}]}}),),
    ),
    "a condition of another owner": (
        "launcher's",
        (writes("models", model(), model(READY)), calls("apply", {"metadata": {}}, "reaper")),
    ),
    "a turn that goes back": (
        "went from 2 to 1",
        (
            writes(GROUP_KIND, None, granting(2, GRANTED)),
            writes(GROUP_KIND, granting(2, GRANTED), None),
            writes(GROUP_KIND, None, granting(1, GRANTED)),
        ),
    ),
    "a step that is left out": (
        "from Granted to Stopped",
        (writes(GROUP_KIND, granting(1, GRANTED), granting(1, STOPPED)),),
    ),
    "a gate that opens without a grant": (
        "nothing is granted",
        (writes("models", None, model()), writes("pods", pod(1, gated=True), pod(1))),
    ),
    "a gate of a turn that is over": (
        "turn 1 is Stopped",
        (
            writes("models", None, model()),
            writes(GROUP_KIND, None, granting(1, STOPPED)),
            writes("pods", pod(1, gated=True), pod(1)),
        ),
    ),
    "a stop that is reported while a Pod is left": (
        "as stopped while Pod m-0 exists",
        (writes("pods", None, pod(1)), *_follows(model(READY), model(AT_REST, backend={"turn": 1}))),
    ),
    "a stop that is reported unasked": (
        "which nobody asked back",
        (
            writes(GROUP_KIND, None, granting(1, GRANTED)),
            *_follows(model(READY), model(AT_REST, backend={"turn": 1})),
        ),
    ),
    "a turn that is stopped while a Pod is left": (
        "is Stopped while Pod m-0 exists",
        (writes("pods", None, pod(1)), writes(GROUP_KIND, granting(1, RELEASING), granting(1, STOPPED))),
    ),
    "a device that is freed too soon": (
        "Freed while its memory is in use",
        (has(an_engine(started=True)), writes(GROUP_KIND, granting(1, STOPPED), granting(1, FREED))),
    ),
    "a finalizer that goes while a Pod is left": (
        "the finalizer of",
        (writes("pods", None, pod(0)), writes("models", model(), None)),
    ),
    "a request that is cut": (
        "were cut 0.0 s after its drain began",
        (
            has(an_engine(started=True, healthy=True, requests={"1": 0.0})),
            *_follows(model(READY), model(LOADING)),
            calls("delete", {"uid": "p"}, "launcher", PODS),
        ),
    ),
    "a Model that is scaled to zero while it loads": (
        "while it was loading for 9.0 s",
        (
            writes("models", None, model(WANTED, LOADING)),
            _passes(9),
            writes("models", model(WANTED), model(IDLE)),
        ),
    ),
    "a Model that is scaled to zero while it is used": (
        "while it had a request for 9.0 s",
        (_has_a_request, _passes(9), writes("models", model(WANTED), model(IDLE))),
    ),
    "a condition that is written again and again": (
        f"more than {WRITES} times",
        tuple(
            calls("apply", {"metadata": {}, "status": {"conditions": [{"type": "Wanted", "status": "True"}]}})
            for _ in range(WRITES + 1)
        ),
    ),
    "a Service that is left": (
        "services m of the deleted Model",
        (_create_service, _ends),
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_reported(case: str) -> None:
    """The law that it breaks says so."""
    words, acts = PLANTED[case]
    problems = judged(*acts)
    assert any(words in problem for problem in problems), problems


def test_a_turn_in_its_order_breaks_no_law() -> None:
    """From the grant over gate and release until the device is free."""
    steps = [granting(1, step) for step in (GRANTED, RELEASING, STOPPED, FREED)]
    assert not judged(
        writes("models", None, model(WANTED)),
        writes(GROUP_KIND, None, steps[0]),
        writes("pods", pod(1, gated=True), pod(1)),
        writes(GROUP_KIND, steps[0], steps[1]),
        writes("pods", pod(1), None),
        *_follows(model(READY), model(AT_REST, backend={"turn": 1})),
        writes(GROUP_KIND, steps[1], steps[2]),
        writes(GROUP_KIND, steps[2], steps[3]),
    )


def test_two_engines_of_a_group_are_reported() -> None:
    """The second one of another holder is, the same holder's restart is not."""
    first, second = an_engine(started=True), an_engine()
    second.pod, second.holder = "q", (UID, "2")
    problems = judged(has(first), has(second), lambda s: s.checker.law(Memory).starts(second))
    assert any("two engines of default/g" in problem for problem in problems)
    second.holder = first.holder
    assert not judged(has(first), has(second), lambda s: s.checker.law(Memory).starts(second))


def test_two_writes_of_a_status_at_a_time_are_reported() -> None:
    """A replica has one under way."""
    call = Call("reaper", "reaper-local", "apply", MODELS, "default", "m", {})
    problems = judged(lambda s: s.checker.begins(call), lambda s: s.checker.begins(call))
    assert "twice at a time" in problems[0]


def test_a_write_of_a_replica_that_does_not_lead_is_reported() -> None:
    """Nobody holds the Lease here."""
    call = Call("reaper", "reaper-local", "apply", MODELS, "default", "m", {})
    assert "while nobody is the leader" in judged(lambda s: s.checker.sends(call))[0]


def test_a_message_and_a_hint_without_a_cause_are_reported() -> None:
    """A message without the sequence that it follows, and a hint without a write."""
    event = events.ModelObserved(model=a_model("m"))
    hint = events.StatusChanged(owner="reaper", namespace="default", name="m", uid=UID, version=7)

    def publish(simulation: Simulation) -> None:
        law, subject = simulation.checker.law(Streams), subjects.subject_of(event)
        simulation.nats.answer("$JS.API.STREAM.CREATE.FI_STATE", _STATE, {}, simulation.machines.clients["a"])
        simulation.nats.publish(subject, codec.encode(event), {})
        simulation.nats.publish(subject, codec.encode(event), {EXPECTED_HEADER: "1"})
        assert law.behind() == []
        simulation.nats.publish(subjects.subject_of(hint), codec.encode(hint), {})

    problems = judged(publish)
    assert "whatever the stream held" in problems[0]
    assert "which it did not" in problems[1]
    assert len(problems) == 2


_STATE = b'{"name": "FI_STATE", "subjects": ["flexinfer.model.>"]}'


def test_a_component_that_is_behind_is_reported() -> None:
    """It holds no Model, and the API server one."""
    problems = judged(
        writes("models", None, model()), lambda s: s.observed.update(reaper=ObservedState), _law_ends
    )
    assert problems == ["the reaper holds {}, and the API server {'default/m': 1} at 0.000"]


def _law_ends(simulation: Simulation) -> None:
    simulation.checker.law(Streams).ends_history()


def test_a_decision_that_an_event_alters_without_touching_it_is_reported() -> None:
    """A controller that forgets a key would decide on it too late."""

    def decide(state: ObservedState, _memory: None, _key: str, _now: float) -> Iterator[Any]:
        yield len(state.models)

    placer = controllers(Settings(), lambda: None, {})["placer"]()  # type: ignore[arg-type,return-value]
    forgetful = msgspec.structs.replace(placer, decide=decide, keys=lambda _state: ("default/m",))
    event = events.ModelObserved(model=a_model("m"))
    after = msgspec.structs.replace(ObservedState(), models={"default/m": event.model})
    states = (ObservedState(), after, None)
    problems = judged(lambda s: check_untouched(forgetful, s, states, set(), event))
    assert "ModelObserved alters what the placer decides on default/m" in problems[0]
    assert not judged(lambda s: check_untouched(forgetful, s, states, {"default/m"}, event))
