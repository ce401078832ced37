"""What another client deletes or edits is whole again within one resync, and the Model's Events say so."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import MODEL_LABEL, MODEL_UID_LABEL, RUNNING_FINALIZER, TURN_LABEL
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import pod_facts
from flexinfer.launcher.audit import ServiceAudit
from flexinfer.launcher.effects import Protect, Relabel, RestoreService
from flexinfer.launcher.manifests import service
from flexinfer.launcher.memory import Memory, ServiceDrifted, ServiceRestored, forget, remember
from flexinfer.runtime.kubernetes.api import PODS, InvalidError
from tests.builders import a_state
from tests.runtimes import a_runtime
from tests.simulation.loop import run
from tests.unit.launcher.acting import SETTINGS as ACTING
from tests.unit.launcher.acting import a_world, observed, perform, pod, ready_of, started, there
from tests.unit.launcher.deciding import READY, STOPPED, decide, decided
from tests.unit.launcher.models import IDLE, SETTINGS, a_start, holding, its_pod
from tests.unit.launcher.world import World

Edit = Callable[[dict[str, Any]], object]


def an_idle_model(**changes: Any) -> Model:
    """Return a Model at rest, whose Service the launcher has created."""
    return a_start(*IDLE, ready=STOPPED, **changes)


def a_world_with_service(model: Model) -> World:
    """Return a world that holds a Model and its Service."""
    world = World()
    world.put("models", msgspec.to_builtins(model))
    world.put("services", service(model, ACTING))
    return world


def audited(world: World, model: Model, edit: Callable[[World], object], seconds: float = 73) -> World:
    """Let the audit and the launcher's decision run for so long, after an edit."""

    async def main() -> None:
        runtime = a_runtime("launcher", cluster=world, random=lambda: 0.999)
        audit, memory = ServiceAudit(ACTING), Memory()
        audit.observe(a_state(model), memory)
        facts: asyncio.Queue[ServiceDrifted] = asyncio.Queue()
        watch = asyncio.create_task(audit.watch(runtime, facts.put_nowait))
        edit(world)
        world.calls.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    memory = remember(memory, await facts.get(), 0)
                    for action in decide(observed(world), memory, 1e6, settings=ACTING):
                        assert isinstance(action, RestoreService)
                        for reply in await perform(runtime, action):
                            assert (
                                not isinstance(reply, ServiceRestored)
                                or not remember(memory, reply, 0).drifted
                            )
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    run(main())
    return world


def events_of(world: World) -> list[str]:
    """Return the messages of all Events."""
    return [thing["message"] for (plural, *_), thing in world.things.items() if plural == "events"]


def gone(world: World) -> object:
    """Delete the Service."""
    return world.things.pop(("services", "default", "llama"))


def test_a_deleted_service_is_created_again_within_a_resync() -> None:
    """And the Model has an Event."""
    model = an_idle_model()
    world = audited(a_world_with_service(model), model, gone)
    assert world.find("services", "llama") is not None
    assert events_of(world) == ["Service llama did not exist; it was created"]


EDITS: dict[str, Edit] = {
    "spec.externalName": lambda s: s["spec"].update(externalName="elsewhere.example.com"),
    "spec.type": lambda s: s["spec"].update(type="ClusterIP", selector={"app": "theirs"}),
    "spec.ports": lambda s: s["spec"].update(ports=[]),
    "annotations": lambda s: s["metadata"].update(annotations={"litellm.flexinfer.ai/served-model": "x"}),
    "labels": lambda s: s["metadata"].update(labels={}),
    "ownerReferences": lambda s: s["metadata"].update(ownerReferences=[]),
}


@pytest.mark.parametrize("field", EDITS)
def test_an_edited_service_is_as_it_should_be_within_a_resync(field: str) -> None:
    """Whichever field it is."""
    model = an_idle_model()
    world = audited(a_world_with_service(model), model, lambda w: w.touch("services", "llama", EDITS[field]))
    restored, wanted = world.find("services", "llama"), service(model, ACTING)
    assert restored is not None
    assert restored["spec"] == wanted["spec"]
    for part in ("labels", "annotations", "ownerReferences"):
        assert restored["metadata"][part] == wanted["metadata"][part]
    assert events_of(world) == [f"Service llama was changed ({field}); it was brought up to date"]


def test_a_service_that_cannot_be_changed_back_is_made_again() -> None:
    """What another type has left in it may be refused."""
    model = an_idle_model()
    world = a_world_with_service(model)

    def refuses(call: str) -> None:
        if call == "merge services":
            raise InvalidError("clusterIP: may not be set for ExternalName", 422)

    world.between = refuses
    audited(world, model, lambda w: w.touch("services", "llama", EDITS["spec.type"]), seconds=150)
    assert (world.find("services", "llama") or {})["spec"] == service(model, ACTING)["spec"]


def test_what_others_added_to_a_service_stays_and_costs_nothing() -> None:
    """Defaults of the API server too: one LIST a resync is all."""
    model = an_idle_model()

    def others(thing: dict[str, Any]) -> None:
        thing["metadata"]["labels"]["theirs"] = thing["metadata"]["annotations"]["theirs"] = "stays"
        thing["spec"]["sessionAffinity"] = "None"
        thing["spec"]["ports"][0]["nodePort"] = 0

    world = audited(
        a_world_with_service(model), model, lambda w: w.touch("services", "llama", others), seconds=300
    )
    assert set(world.calls) == {"list services"}
    assert len(world.calls) == 4


def test_two_thousand_models_cost_one_list() -> None:
    """Not a GET each."""
    models = [an_idle_model(name=f"m{number}") for number in range(2000)]
    world = World()
    for model in models:
        world.put("services", service(model, ACTING))

    async def main() -> list[ServiceDrifted]:
        audit, facts = ServiceAudit(ACTING), list[ServiceDrifted]()
        audit.observe(a_state(*models), Memory())
        world.things.pop(("services", "default", "m7"))
        watch = asyncio.create_task(audit.watch(a_runtime("launcher", cluster=world), facts.append))
        await asyncio.sleep(65)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        return facts

    assert run(main()) == [ServiceDrifted(key="default/m7", uid="uid-m7")]
    assert world.calls == ["list services"]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(a_start(*IDLE), id="its Service is not created yet"),
        pytest.param(a_start(*IDLE, ready=STOPPED, generation=2, ready_generation=1), id="a newer spec"),
        pytest.param(an_idle_model(deletion_timestamp="2026-11-24T12:00:00Z"), id="it is being deleted"),
    ],
)
def test_a_model_whose_service_comes_or_goes_is_not_audited(model: Model) -> None:
    """Other steps create it, or delete it with the Model."""
    world = World()
    world.put("models", msgspec.to_builtins(model))
    audited(world, model, lambda _w: None)
    assert set(world.calls) == {"list services"}


def test_a_name_that_was_taken_is_taken_back_once_it_is_free() -> None:
    """A final reason rejects requests: nothing else would ever try again."""
    model = a_start(*IDLE, ready=("False", Reason.NAME_TAKEN))
    world = World()
    world.put("models", msgspec.to_builtins(model))
    audited(world, model, lambda w: w.put("services", {"metadata": {"name": "llama"}, "spec": {}}))
    assert ready_of(world)[1] == Reason.NAME_TAKEN
    audited(world, model, gone)
    assert ready_of(world)[1] == Reason.NOT_STARTED
    assert world.find("services", "llama") is not None


def test_a_pod_of_another_owner_keeps_the_name_taken() -> None:
    """Both names must be free."""
    model = a_start(*IDLE, ready=("False", Reason.NAME_TAKEN))
    world = a_world_with_service(model)
    audited(world, model, lambda w: w.put("pods", {"metadata": {"name": "llama-0"}, "spec": {}}))
    assert ready_of(world)[1] == Reason.NAME_TAKEN


def test_a_served_model_stays_ready_while_its_service_is_another_ones() -> None:
    """The proxies route to its engine by its own address."""
    model = a_start(ready=READY)
    world = World()
    world.put("models", msgspec.to_builtins(model))
    foreign = {
        "metadata": {"name": "llama", "labels": {MODEL_LABEL: "other", MODEL_UID_LABEL: "x"}},
        "spec": {},
    }

    async def main() -> None:
        world.put("services", foreign)
        action = RestoreService(model=model, service=service(model, ACTING))
        await perform(a_runtime("launcher", cluster=world), action)

    run(main())
    assert ready_of(world)[0] == "True"


def test_drift_is_forgotten_with_its_model() -> None:
    """By uid: no namesake inherits it."""
    memory = remember(Memory(), ServiceDrifted(key="default/llama", uid="former"), 0)
    model = an_idle_model()
    assert list(decide(a_state(model), memory, 1e6, settings=SETTINGS)) == []
    assert forget(memory, "former") == Memory()


def test_a_finalizer_that_was_removed_while_the_engine_runs_is_put_back() -> None:
    """A deletion would otherwise not wait for the engine."""
    model = a_start(ready=READY, finalizers=("example.com/theirs",))
    assert decided(model, holding(model, its_pod(model)))[0] == Protect(model=model)
    assert not decided(an_idle_model(finalizers=())), "no engine, no finalizer"
    gated = its_pod(model, gates=("flexinfer.ai/turn-0",))
    assert not [a for a in decided(model, holding(model, gated)) if isinstance(a, Protect)]


def test_labels_that_a_pod_has_lost_are_put_back() -> None:
    """Without them the engine was taken for gone, and its name for taken by another."""
    model = a_start(ready=READY, finalizers=(RUNNING_FINALIZER,))
    lost = its_pod(model, unlabelled=True)
    assert decided(model, holding(model, lost))[0] == Relabel(model=model, pod=lost)
    terminating = its_pod(model, unlabelled=True, deleting=True)
    assert not [a for a in decided(model, holding(model, terminating)) if isinstance(a, Relabel)]


@pytest.mark.parametrize("labels", [{}, {MODEL_UID_LABEL: "x"}, {MODEL_LABEL: "other", MODEL_UID_LABEL: "x"}])
async def test_a_pod_is_its_owners_whatever_its_labels_say(labels: dict[str, str]) -> None:
    """Any user who may label Pods may write anything there: the engine runs on, and an Event says what was changed."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    before = pod(world)["metadata"]["labels"]
    world.touch("pods", "llama-0", lambda p: p["metadata"].update(labels=labels))
    facts = pod_facts(msgspec.convert(pod(world), PODS.type))
    assert (facts.model_uid, facts.unlabelled) == (there(world).uid, True)
    await started(world, runtime)
    assert pod(world)["metadata"]["uid"] == facts.uid
    await perform(runtime, Relabel(model=there(world), pod=facts))
    after = pod(world)["metadata"]["labels"]
    assert after | {TURN_LABEL: "0"} == before
    assert not pod_facts(msgspec.convert(pod(world), PODS.type)).unlabelled
    await asyncio.sleep(0.2)
    assert events_of(world) == ["labels of Pod llama-0 were changed; they are as before"]


async def test_the_event_of_a_finalizer_says_what_happened() -> None:
    """Beside those of others."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    world.touch("models", "llama", lambda m: m["metadata"].update(finalizers=["example.com/theirs"]))
    await perform(runtime, Protect(model=there(world)))
    assert there(world).metadata.finalizers == ("example.com/theirs", RUNNING_FINALIZER)
    await asyncio.sleep(0.2)
    assert events_of(world) == [
        "finalizer flexinfer.ai/running was removed while the engine runs; it was added again"
    ]
