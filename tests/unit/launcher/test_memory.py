"""What the launcher remembers of its Models: of each by itself."""

from flexinfer.api.model import Model
from flexinfer.launcher.memory import (
    CreationRejected,
    EngineProbed,
    Memory,
    MemoryLoaded,
    ServiceDrifted,
    forget,
    pods_of,
    remember,
)
from tests.builders import NOW, a_model, a_state
from tests.unit.launcher.models import a_probe, holding, its_pod


def remembered(*models: Model) -> Memory:
    """Return a memory that holds something of each kind about each of these Models."""
    memory = Memory()
    for model in models:
        pod, names = its_pod(model), {"key": model.key, "uid": model.uid}
        for fact in (
            a_probe(model, pod, healthy=False),
            CreationRejected(**names),
            ServiceDrifted(**names),
            MemoryLoaded(**names, pod_uid=pod.uid, device_mb=1000),
        ):
            memory = remember(memory, fact, NOW)
    return memory


def test_a_model_that_is_forgotten_takes_nothing_of_the_others_with_it() -> None:
    """And nothing of its own stays."""
    first, second = a_model("first"), a_model("second")
    assert forget(remembered(first, second), first.uid) == remembered(second)
    assert forget(remembered(first), first.uid) == Memory()


def test_an_engine_that_serves_ends_what_was_noted_of_its_own_start_alone() -> None:
    """How far another one has loaded, and how often its Pod was rejected, counts on."""
    first, second = a_model("first"), a_model("second")
    memory = remember(remembered(first, second), a_probe(first, its_pod(first)), NOW)
    assert set(memory.progress) == set(memory.rejections) == {second.uid}


def test_a_pod_that_was_deleted_is_gone_until_its_deletion_is_observed_or_it_is_written_again() -> None:
    """An API server that was restored has it again, with its uid: it is stopped again, and holds up no placement."""
    model = a_model()
    pod = its_pod(model)
    gone = EngineProbed(
        key=model.key, uid=model.uid, pod_uid=pod.uid, healthy=False, gone=True, version=pod.version
    )
    memory = remember(Memory(), gone, NOW)
    there, deleted = holding(model, pod), holding(model)
    terminating = holding(model, its_pod(model, deleting=True, version=6))
    written = its_pod(model, version=9)
    for observed in ((there,), (there, deleted), (there, terminating)):
        assert pods_of(model, a_state(model, *observed), memory) == ()
    assert pods_of(model, a_state(model, there, deleted, there), memory) == (pod,)
    assert pods_of(model, a_state(model, there, holding(model, written)), memory) == (written,)
