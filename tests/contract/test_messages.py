"""The catalogue of messages: every one is rendered, with the worst that may be quoted in it, and is one text and not two glued together."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from flexinfer.api import group_reasons, lease_reasons, reasons
from flexinfer.api.model import Cache, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.events.workload import JobFacts
from flexinfer.placer import messages as placed
from flexinfer.placer.unschedulable import Rank, Unschedulable
from flexinfer.prefetcher import messages as cached
from flexinfer.prefetcher.plan import Plan, PrefetchSettings, plan_of
from flexinfer.reaper import messages as wanted
from flexinfer.reaper.model_state import model_state
from tests.builders import NOW, a_model, a_state
from tests.contract.wording import QUOTED, glued, public


def planned(source: str, **cache: Any) -> tuple[Model, Plan]:
    """Return a Model of a source with its plan."""
    model = a_model(source=source, config={"ggufFile": "x.gguf"} if source.startswith("HF") else {})
    if cache:
        spec = msgspec.structs.replace(model.spec, cache=Cache(**cache))
        model = msgspec.structs.replace(model, spec=spec)
    plan = plan_of(model, PrefetchSettings(image="ours"))
    assert plan is not None
    return model, plan


def listed(source: str) -> tuple[Model, Plan]:
    """Return a Model whose PVC is to have the size of its files, with the plan that asks for that."""
    model, plan = planned(source)
    return model, plan.first()


PLANS = (
    planned("HF://a/b"),
    listed("HF://a/b"),
    planned("HF://a/b", pvc_name="weights"),
    planned("pvc://models/x.gguf"),
    planned("pvc://models"),
    planned("file:///models/x.gguf"),
)
CACHED: Mapping[str, Callable[[Model, Plan, str], list[str]]] = {
    "waiting_for_placed": lambda _, plan, __: [cached.waiting_for_placed(plan)],
    "running": lambda model, plan, quoted: [
        cached.running(model, plan),
        cached.running(model, plan, JobFacts(name="j", uid="u", waiting=f"Unschedulable: {quoted}")),
        cached.running(model, plan, JobFacts(name="j", uid="u", waiting="ContainerCreating: ")),
    ],
    "progress": lambda *_: [cached.progress(1, 4_900_000_000, eta) for eta in (0, 7, 90, 4000)],
    "size": lambda *_: [cached.size(10**power) for power in (0, 3, 6, 9)],
    "queued": lambda *_: [cached.queued("n", 4)],
    "remade": lambda model, plan, _: [cached.remade(cached.running(model, plan), plan)],
    "contains": lambda model, plan, _: [cached.contains(model, plan, size) for size in (0, 10**9)],
    "code": lambda model, plan, _: [
        cached.contains(model, plan, 1) + cached.code(*names)
        for names in (("", ""), ("a.bin", ""), ("", "b.pth"))
    ],
    "kept": lambda model, plan, _: [cached.contains(model, plan, 1) + cached.kept(model)],
    "not_kept": lambda model, plan, quoted: [
        cached.contains(model, plan, 1) + cached.not_kept(model, JobFacts(name="j", uid="u"), quoted)
    ],
    "not_found": lambda model, plan, _: [
        cached.not_found(model, plan),
        cached.failed(plan, cached.not_found(model, plan), 15),
    ],
    "unchecked": lambda _, plan, quoted: [cached.unchecked(plan, quoted)],
    "failed": lambda _, plan, quoted: [cached.failed(plan, quoted, 15)],
    "pvc_not_found": lambda model, plan, _: [cached.pvc_not_found(model, plan)],
    "pvc_pending": lambda model, plan, quoted: [
        cached.pvc_pending(model, plan, "fast", waiting) for waiting in ("", quoted)
    ],
    "pvc_refused": lambda model, plan, quoted: [cached.pvc_refused(model, plan, "fast", quoted)],
    "pvc_lost": lambda model, plan, _: [cached.pvc_lost(model, plan)],
    "no_default_class": lambda _, plan, __: [cached.no_default_class(plan)],
    "no_storage_class": lambda *_: [cached.no_storage_class("fast")],
    "pvc_deleting": lambda _, plan, __: [cached.pvc_deleting(plan)],
    "pvc_name_taken": lambda _, plan, __: [cached.pvc_name_taken(plan)],
    "job_name_taken": lambda *_: [cached.job_name_taken("llama-fetch-1")],
    "rejected": lambda _, plan, quoted: [cached.rejected(plan, quoted)],
}
_OF_A_PVC = (
    "pvc_not_found",
    "pvc_pending",
    "pvc_refused",
    "pvc_lost",
    "no_default_class",
    "pvc_deleting",
    "pvc_name_taken",
    "remade",
)
ON_CPU = Placement(node="n")
ON_GPU = Placement(
    node="n",
    vendor="nvidia",
    driver="gpu.nvidia.com",
    devices=placed_devices(("GPU-1",), 8000),
    footprint_mb=8000,
    footprint_source="Measured",
)
LACKS = Unschedulable("has no label a=b", "label a node, or change spec.nodeSelector", Rank.LABEL)
PLACED: Mapping[str, Callable[[str], list[str]]] = {
    "scheduled": lambda _: [placed.scheduled(where, ("it may be slow",)) for where in (ON_CPU, ON_GPU)],
    "memory_unknown": lambda _: [placed.memory_unknown("n", "amd", "it has no amdgpu driver")],
    "out_of_use": lambda quoted: [placed.out_of_use("GPU-1", "n", quoted, "no other node fits")],
    "other_device": lambda _: [placed.other_device(a_model().metadata)],
    "offered_twice": lambda _: placed.offered_twice(ON_GPU, ("GPU-1", "GPU-2")),
    "experimental": lambda _: [placed.experimental("vllm", "sm_6", "it is built from source")],
    "excused": lambda _: [placed.excused("vllm", "sm_52", "it needs sm_70", "built by hand")],
    "no_node_fits": lambda _: [
        placed.no_node_fits({}),
        placed.no_node_fits({f"n{i}": LACKS for i in range(40)}),
        placed.no_node_fits({"n": LACKS}, placed.group_scope("card", "n")),
    ],
    "group_scope": lambda _: [placed.group_scope("card", "n")],
    "node_unhealthy": lambda _: [
        placed.node_unhealthy("n", devices=devices, seconds=60) for devices in (True, False)
    ],
    "node_gone": lambda _: [placed.node_gone("n", "was deleted", pods=pods) for pods in (True, False)],
}


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_message_of_the_prefetcher_is_whole(quoted: str) -> None:
    """Of each kind of source, and whatever is quoted."""
    assert public(cached) == set(CACHED)
    for model, plan in PLANS:
        for name, render in CACHED.items():
            if plan.pvc or name not in _OF_A_PVC:
                for message in render(model, plan, quoted):
                    assert not glued(message)


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_message_of_the_placer_is_whole(quoted: str) -> None:
    """With one node and with many."""
    assert public(placed) == set(PLACED)
    for render in PLACED.values():
        for message in render(quoted):
            assert not glued(message)


def test_every_message_of_the_reaper_is_whole() -> None:
    """With and without a clock."""
    item = model_state(a_model(), a_state(a_model()), NOW)
    rendered = [
        render(item, offset)
        for render in (
            wanted.idle_message,
            wanted.not_requested_message,
            wanted.requested_message,
            wanted.last_request,
        )
        for offset in (None, 0.0)
    ]
    assert public(wanted) == {
        *("idle_message", "not_requested_message", "requested_message"),
        *("serving_message", "last_request"),
    }
    for message in (*rendered, wanted.serving_message(item)):
        assert not glued(message)


def test_every_meaning_and_remedy_of_a_reason_is_whole() -> None:
    """Of Models, groups and leases; meanings are sentences with a full stop, remedies are none."""
    for reason, facts in reasons.FACTS.items():
        assert not glued(facts.meaning.removesuffix("."))
        assert not glued(reasons.remedy(reason, namespace="default", name="llama") or "x")
    groups = [text for row in group_reasons.GROUP_FACTS.values() for text in (row.meaning, row.remedy)]
    leases = [text for row in lease_reasons.LEASE_FACTS.values() for text in (row.meaning, row.remedy)]
    for text in (*groups, *leases):
        assert not glued(text.removesuffix(".") or "x")


@pytest.mark.parametrize(
    "text",
    [
        "StorageClass fast does not exist. Remedy: create it; retrying within 5m",
        "the API server rejected it: not found.; retrying within 5m",
        "PVC x is Pending: it has no class.Remedy: create one",
        "position 1 of 2 ()",
        "waiting for None",
        "it failed. retrying",
        "1 holders at the start",
        "after 3 attempt it is given up",
        "waiting for for the node",
        "no answer within 30; retrying",
    ],
)
def test_a_glued_message_is_noticed(text: str) -> None:
    """The judge itself."""
    assert glued(text)
