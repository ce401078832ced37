"""The laws of calls, messages, engines and decisions report a violation that is planted before them."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from flexinfer.events import codec, events, subjects
from flexinfer.runtime.kubernetes.api import MODELS
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import ObservedState
from tests.builders import a_model
from tests.simulation.controllers import check_untouched, controllers
from tests.simulation.jetstream.server import EXPECTED_HEADER
from tests.simulation.laws.base import Call
from tests.simulation.laws.memory import Memory
from tests.simulation.laws.streams import Streams
from tests.simulation.planting import (
    UID,
    an_engine,
    has,
    judged,
    model,
    writes,
)
from tests.simulation.simulation import Simulation


def test_two_engines_of_a_group_are_reported() -> None:
    """The second one of another holder is, the same holder's restart is not."""
    first, second = an_engine(started=True), an_engine()
    second.pod, second.holder = "q", (UID, "2")
    problems = judged(has(first), has(second), lambda s: s.checker.law(Memory).starts(second))
    assert any("two engines of default/g" in problem for problem in problems)
    second.holder = first.holder
    assert not judged(has(first), has(second), lambda s: s.checker.law(Memory).starts(second))


@pytest.mark.parametrize(("device", "said"), [("GPU-a2", "GPU-a2 has 8000 MiB"), ("GPU-a3", "")])
def test_an_engine_counts_on_each_of_its_devices(device: str, said: str) -> None:
    """Beside one of two devices with 6,000 MiB on each there is no room for 4,000 on either."""
    wide, narrow = (
        an_engine(started=True, estimate_mb=12_000, used_mb=12_000),
        an_engine(estimate_mb=4_000, used_mb=4_000),
    )
    wide.devices, narrow.devices = ("GPU-a", "GPU-a2"), (device,)
    narrow.pod, narrow.holder = "q", (UID, "2")
    problems = judged(has(wide), has(narrow), lambda s: s.checker.law(Memory).starts(narrow))
    assert said in "".join(problems)
    assert len(problems) == bool(said)


def test_two_writes_of_a_status_at_a_time_are_reported() -> None:
    """A replica has one in progress."""
    call = Call("reaper", "reaper-local", "apply", MODELS, "default", "m", {})
    problems = judged(lambda s: s.checker.begins(call), lambda s: s.checker.begins(call))
    assert "twice at a time" in problems[0]


def test_a_write_of_a_replica_that_does_not_lead_is_reported() -> None:
    """No replica holds the Lease here."""
    call = Call("reaper", "reaper-local", "apply", MODELS, "default", "m", {})
    assert "while no replica is the leader" in judged(lambda s: s.checker.sends(call))[0]


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
    problems = judged(lambda s: check_untouched(forgetful, s, states, {"default/m"}, event))
    assert "ModelObserved alters what the placer decides on default/m" in problems[0]
    assert not judged(lambda s: check_untouched(forgetful, s, states, set(), event))
