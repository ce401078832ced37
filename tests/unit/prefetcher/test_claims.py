"""The audit of caches: the policy of the Model is on its PVC, and a PVC is deleted only where that says so and its Model is gone."""

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import MODEL_LABEL, RECLAIM_LABEL
from flexinfer.api.model import Cache, Model
from flexinfer.events import events
from flexinfer.prefetcher import jobs
from flexinfer.prefetcher.claims import ClaimAudit
from flexinfer.prefetcher.memory import Memory
from flexinfer.runtime.kubernetes.api import ForbiddenError, Kind
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState
from tests.builders import a_model, a_state
from tests.runtimes import a_runtime
from tests.unit.prefetcher.cluster import DictCluster


def kept(policy: str | None) -> Model:
    """Return a Model of the hub with a policy."""
    model = a_model(source="HF://a/b")
    spec = msgspec.structs.replace(model.spec, cache=Cache(reclaim_policy=policy))
    return msgspec.structs.replace(model, spec=spec)


async def audited(cluster: DictCluster, *states: ObservedState) -> None:
    """Run the audit through some states, each until it rests; time passes by itself."""
    audit = ClaimAudit()
    rests = asyncio.Event()
    naps = 0

    async def sleep(_seconds: float) -> None:
        nonlocal naps
        naps += 1
        rests.set()
        await asyncio.sleep(0)

    runtime: Runtime = a_runtime("prefetcher", cluster=cluster, sleep=sleep)
    task = asyncio.ensure_future(audit.watch(runtime, lambda _fact: None))
    try:
        for state in states:
            audit.touch(keys(states))
            audit.observe(state, Memory())
            for _ in range(3):
                rests.clear()
                await asyncio.wait_for(rests.wait(), 5)
    finally:
        task.cancel()


def keys(states: Iterable[ObservedState]) -> set[str]:
    """Return the keys of all Models of some states."""
    return {key for state in states for key in state.models} or {"default/llama"}


@pytest.mark.parametrize(("policy", "deleted"), [(None, []), ("Retain", []), ("Delete", ["llama-cache"])])
async def test_a_cache_outlives_its_model_unless_its_policy_is_delete(
    policy: str | None, deleted: list[str]
) -> None:
    """The PVC carries the policy, so it does not matter who was down when the Model was deleted."""
    model = kept(policy)
    cluster = DictCluster(model)
    cluster.put("persistentvolumeclaims", jobs.pvc(model, "llama-cache"))
    del cluster.objects["models", "llama"]
    await audited(cluster, a_state())
    assert sorted({name for _, name, _ in cluster.deleted}) == deleted
    uid = cluster.objects["persistentvolumeclaims", "llama-cache"]["metadata"]["uid"]
    assert {uid for _, _, uid in cluster.deleted} == ({uid} if deleted else set())


async def test_a_cache_whose_model_the_api_server_still_has_stays() -> None:
    """What was not observed proves nothing: a GET decides."""
    model = kept("Delete")
    cluster = DictCluster(model)
    cluster.put("persistentvolumeclaims", jobs.pvc(model, "llama-cache"))
    await audited(cluster, a_state())
    assert cluster.deleted == []


async def test_a_changed_policy_is_written_on_the_cache() -> None:
    """In both directions: the one that the Model had last counts."""
    cluster = DictCluster(kept(None))
    cluster.put("persistentvolumeclaims", jobs.pvc(kept(None), "llama-cache"))
    for policy, written in (("Delete", "Delete"), (None, "Retain")):
        await audited(cluster, a_state(events.ModelObserved(model=kept(policy))))
        labels = cluster.objects["persistentvolumeclaims", "llama-cache"]["metadata"]["labels"]
        assert labels[RECLAIM_LABEL] == written


async def test_a_claim_of_the_users_own_is_never_deleted() -> None:
    """It has none of our labels, whatever it is called (reliability X22)."""
    cluster = DictCluster(kept("Delete"))
    cluster.put("persistentvolumeclaims", {"metadata": {"name": "llama-cache", "labels": {}}, "spec": {}})
    del cluster.objects["models", "llama"]
    await audited(cluster, a_state())
    assert cluster.deleted == []


@pytest.mark.parametrize("label", [None, "", "another", "llama-0", "A_b"])
async def test_a_cache_whose_label_was_edited_is_left_alone_and_keeps_no_other_from_being_compared(
    label: str | None,
) -> None:
    """Without its label it once ended the prefetcher; by the label of a Model that never existed it would be deleted beside its own."""
    gone = kept("Delete")
    cluster = DictCluster(gone)
    for name in ("edited-cache", "llama-cache"):
        cluster.put("persistentvolumeclaims", jobs.pvc(gone, name))
    labels = cluster.objects["persistentvolumeclaims", "edited-cache"]["metadata"]["labels"]
    labels[MODEL_LABEL] = label
    if label is None:
        del labels[MODEL_LABEL]
    del cluster.objects["models", "llama"]
    await audited(cluster, a_state())
    assert {name for _, name, _ in cluster.deleted} == {"llama-cache"}


async def test_the_label_of_a_cache_whose_model_exists_is_put_back() -> None:
    """By its name, and as one that FlexInfer has made; its Model would have said that the name is taken."""
    model = kept("Delete")
    cluster = DictCluster(model)
    cluster.put("persistentvolumeclaims", jobs.pvc(model, "llama-cache"))
    labels = cluster.objects["persistentvolumeclaims", "llama-cache"]["metadata"]["labels"]
    labels[MODEL_LABEL] = "another"
    await audited(cluster, a_state(events.ModelObserved(model=model)))
    assert (labels[MODEL_LABEL], cluster.deleted) == ("llama", [])


async def test_a_cache_that_may_not_be_deleted_keeps_no_other_from_being_compared() -> None:
    """A policy of one namespace refuses it."""

    class Refusing(DictCluster):
        async def delete(self, kind: Kind[Any], _namespace: str, name: str, *, uid: str = "") -> None:
            if name == "a-cache":
                raise ForbiddenError("denied by a policy", 403)
            await super().delete(kind, _namespace, name, uid=uid)

    gone = kept("Delete")
    cluster = Refusing(gone)
    for name in ("a", "llama"):
        model = msgspec.structs.replace(gone, metadata=msgspec.structs.replace(gone.metadata, name=name))
        cluster.put("persistentvolumeclaims", jobs.pvc(model, f"{name}-cache"))
    del cluster.objects["models", "llama"]
    await audited(cluster, a_state())
    assert {name for _, name, _ in cluster.deleted} == {"llama-cache"}
