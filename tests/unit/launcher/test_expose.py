"""Exposing: the Service follows the spec, and the proxies get a hint."""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.labels import SERVICE_LABELS_ANNOTATION
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Expose
from flexinfer.launcher.memory import Memory
from flexinfer.runtime.kubernetes.api import MODELS
from tests.keyed import on_all_models
from tests.runtimes import ListBus
from tests.unit.launcher.acting import SETTINGS, a_world, observed, perform, ready_of, settled, there
from tests.unit.launcher.models import a_start

decide = on_all_models(deciding.decide)


async def test_a_foreign_service_is_left_unchanged_and_reported() -> None:
    """The Model's name is taken."""
    world, runtime = a_world(a_start("Accepted"))
    world.put("services", {"metadata": {"name": "llama"}, "spec": {}})
    state = observed(world)
    [action] = [a for a in decide(state, Memory(), 5.0, settings=SETTINGS) if isinstance(a, Expose)]
    await perform(runtime, action)
    assert ready_of(world) == ("False", Reason.NAME_TAKEN, 0)


async def test_the_service_follows_the_spec() -> None:
    """Annotations of FlexInfer that no longer apply are removed, those of others stay."""
    model = a_start("Accepted")
    labelled = msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, service_labels=("fast",))
    )
    world, runtime = a_world(labelled)
    await settled(world, runtime)
    service = world.find("services", "llama")
    assert service is not None
    assert service["spec"]["externalName"] == "flexinfer-proxy.flexinfer-system.svc.cluster.local"
    assert service["metadata"]["annotations"][SERVICE_LABELS_ANNOTATION] == "fast"
    world.touch("services", "llama", lambda s: s["metadata"]["annotations"].update(mine="stays"))
    world.touch(
        "models", "llama", lambda m: (m["spec"].pop("serviceLabels"), m["metadata"].update(generation=2))
    )
    for condition in there(world).status.conditions:
        assert condition.type in (conditions.ACCEPTED, conditions.READY)
    world.touch("models", "llama", lambda m: m["status"]["conditions"][0].update(observedGeneration=2))
    await settled(world, runtime)
    notes = (world.find("services", "llama") or {})["metadata"]["annotations"]
    assert SERVICE_LABELS_ANNOTATION not in notes
    assert notes["mine"] == "stays"


async def test_the_proxies_get_a_hint_once_the_model_is_ready() -> None:
    """A hint after the write, never before it."""
    world, runtime = a_world(a_start())
    await settled(world, runtime, ready=True)
    assert isinstance(runtime.bus, ListBus)
    hints = [e for e in runtime.bus.published if isinstance(e, events.EngineReady)]
    assert [h.uid for h in hints] == ["uid-llama"]
    assert (await world.get(MODELS, "default", "llama")).condition(conditions.READY) is not None
