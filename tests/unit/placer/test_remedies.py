"""The remedy of a refusal is the one that helps with its cause, with the numbers."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Gpu, Model
from flexinfer.api.podspec import Resources
from flexinfer.api.reasons import Reason
from flexinfer.events.nodes import Taint
from tests.builders import a_group, a_holder, a_node, a_pod, running
from tests.unit.placer.test_binding import DRIVER, FIRST, SECOND, a_box, by_dra, plugin
from tests.unit.placer.test_decide import TEAM, a_gpu_node, a_new, a_placed, only_write, with_spec

TWO = Gpu(vendor="nvidia", count=2, vram_estimate_mb=8000)
LARGE_TWO = Gpu(vendor="nvidia", count=2, vram_estimate_mb=40_000)
PAIR = msgspec.structs.replace(FIRST, uuid="GPU-3", pci="0000:03:00.0")
SEE_AGENT = "; if a node has more than it reports, flexinfer gpus --here on it says why"
ADD = "add a node with 2 nvidia devices"


def refused(model: Model, *parts: Any) -> tuple[str, str]:
    """Return why the nodes are refused, and the remedy."""
    condition = only_write(*parts, model).condition
    assert condition.reason == Reason.NO_NODE_FITS
    cause, _, remedy = condition.message.partition(". Remedy: ")
    return cause.partition("): ")[2], remedy


TOO_FEW = [
    pytest.param(
        a_box(FIRST, plugin=plugin(8)),
        TWO,
        "reports 1 nvidia device, offered as 8 nvidia.com/gpu, 2 requested",
        f"lower spec.gpu.count to 1, or {ADD}{SEE_AGENT}",
        id="time slices of one card",
    ),
    pytest.param(
        a_box(FIRST, plugin=plugin(8)),
        LARGE_TWO,
        "reports 1 nvidia device, offered as 8 nvidia.com/gpu, 2 requested",
        f"{ADD}, or lower spec.gpu.count to 1 and spec.gpu.vramEstimateMB to 24576 MiB or less, "
        f"for instance with a smaller quantization{SEE_AGENT}",
        id="one card holds less",
    ),
    pytest.param(
        a_box(FIRST, plugin=plugin(1)),
        TWO,
        "offers 1 nvidia.com/gpu, 2 requested",
        f"lower spec.gpu.count to 1, or {ADD}",
        id="a device plugin",
    ),
    pytest.param(
        a_box(FIRST, dra=by_dra(FIRST)),
        TWO,
        f"offers 1 nvidia device by the DRA driver {DRIVER}, 2 requested",
        f"lower spec.gpu.count to 1, or {ADD}",
        id="a DRA driver",
    ),
    pytest.param(
        a_box(FIRST, runtime_classes={"nvidia": "nv"}),
        TWO,
        "offers 1 nvidia device by its RuntimeClass nv, 2 requested",
        f"lower spec.gpu.count to 1, or {ADD}",
        id="a RuntimeClass",
    ),
    pytest.param(
        a_box(FIRST, PAIR, plugin=plugin(1)),
        TWO,
        "offers 1 nvidia.com/gpu, 2 requested, though its agent reports 2 nvidia devices",
        "see in the log of its device plugin why it does not offer all (kubectl get pods -A -o wide | grep a), "
        "or lower spec.gpu.count to 1",
        id="a device plugin that withholds one",
    ),
    pytest.param(
        a_box(FIRST, PAIR, dra=by_dra(FIRST)),
        TWO,
        f"offers 1 nvidia device by the DRA driver {DRIVER}, 2 requested, though its agent reports 2 nvidia devices",
        "see why its DRA driver does not list all (kubectl get resourceslices), or lower spec.gpu.count to 1",
        id="a DRA driver that lists one",
    ),
    pytest.param(
        (a_gpu_node("a"),),
        TWO,
        "offers 1 nvidia.com/gpu, 2 requested",
        f"lower spec.gpu.count to 1, or {ADD}",
        id="no telemetry",
    ),
]


@pytest.mark.parametrize(("node", "gpu", "cause", "remedy"), TOO_FEW)
def test_too_few_devices_are_a_lower_count_or_another_node(
    node: tuple[Any, ...], gpu: Gpu, cause: str, remedy: str
) -> None:
    """Neither the driver nor the agent is at fault where a node just has no more."""
    assert refused(a_new(gpu=gpu), *node) == (f"a: {cause}", remedy)


def test_a_count_that_no_node_has_is_lowered_to_that_of_the_node_with_most() -> None:
    """Of nodes on which the Model would fit."""
    small = msgspec.structs.replace(SECOND, uuid="GPU-9")
    nodes = [*a_box(FIRST, PAIR, plugin=plugin(2)), a_node("b", allocatable={"pods": 9000} | plugin(1))]
    nodes.append(msgspec.structs.replace(nodes[1], node="b", devices=(small,)))
    gpu = Gpu(vendor="nvidia", count=4, vram_estimate_mb=16_000)
    assert refused(a_new(gpu=gpu), *nodes)[1].startswith("lower spec.gpu.count to 2, or add a node with 4")


def test_a_device_that_cannot_be_used_at_all_is_repaired_before_the_count_is_lowered() -> None:
    """With one device the Model could not run either."""
    sick = msgspec.structs.replace(FIRST, healthy=False, errors=("XID 79",))
    cause, remedy = refused(a_new(gpu=TWO), *a_box(sick, plugin=plugin(8)))
    assert ("XID 79" in cause, remedy) == (True, "repair the device, or use another node")


def test_tainted_devices_are_not_too_few() -> None:
    """The driver lists them: the taint is what is removed."""
    cause, remedy = refused(a_new(gpu=Gpu(vendor="nvidia")), *a_box(FIRST, dra=by_dra(FIRST, tainted=True)))
    assert f"is tainted by the DRA driver {DRIVER}" in cause
    assert remedy.startswith("remove the taint from the device")


@pytest.mark.parametrize(("backend", "raised"), [("vllm", True), ("diffusers", False)])
def test_a_model_that_is_too_large_for_one_device_is_put_on_more_of_them(
    backend: str, *, raised: bool
) -> None:
    """Where the node has enough of them, and the engine can use them."""
    gpu = Gpu(vendor="nvidia", vram_estimate_mb=40_000)
    remedy = refused(a_new(gpu=gpu, backend=backend), *a_box(FIRST, PAIR, plugin=plugin(2)))[1]
    assert remedy.startswith("raise spec.gpu.count to 2, or lower spec.gpu") == raised
    alone = refused(a_new(gpu=gpu, backend=backend), *a_box(FIRST, plugin=plugin(1)))[1]
    assert "raise" not in alone


def test_a_device_of_a_running_group_that_is_not_reported_is_named() -> None:
    """Its members get no other device, so a lower count would not help."""
    member = a_placed("other", gpu=TEAM, devices=("GPU-7",))
    group = a_group(a_holder("other", uid=member.uid, node="a", devices=("GPU-7",)))
    parts = (*a_box(FIRST, plugin=plugin(2)), member, running(member, a_pod(member)), group)
    cause, remedy = refused(a_new("second", gpu=TEAM), *parts)
    assert "does not report GPU-7, which the shared group of the model has" in cause
    assert remedy == "check the driver of node a and its agent (flexinfer gpus --here on the node)"


def test_devices_that_pods_of_others_have_requested_are_not_those_of_a_model() -> None:
    """No model can be stopped there."""
    full = a_gpu_node("a", requested={"nvidia.com/gpu": 1000})
    assert refused(a_new(gpu=Gpu(vendor="nvidia")), full) == (
        "a: has 0 of 1 nvidia.com/gpu free, 1 requested",
        "delete a Pod on node a that requests nvidia.com/gpu",
    )


def test_devices_of_a_shared_group_are_had_by_joining_it() -> None:
    """Its Model is not to be stopped for that."""
    member = a_placed("other", gpu=TEAM, wanted=False)
    cause, remedy = refused(a_new(gpu=Gpu(vendor="nvidia")), a_gpu_node("a"), member)
    assert cause == "a: has 0 of 1 nvidia.com/gpu free, 1 requested (reserved for the shared group card)"
    assert remedy == "let the model take turns with that group (spec.gpu.shared: card)"


def test_a_node_that_takes_no_more_pods_is_no_matter_of_the_spec() -> None:
    """Each Model is one Pod."""
    full = a_node("a", allocatable={"cpu": 8000, "pods": 3000}, requested={"pods": 3000})
    assert refused(a_new(), full) == (
        "a: has 0 pods free, 1 requested",
        "delete a Pod on node a, or raise the limit of its kubelet (maxPods)",
    )
    none = a_node("a", allocatable={"cpu": 8000, "pods": 0})
    assert refused(a_new(), none)[1].startswith("use a node that takes Pods")


def test_a_request_is_lowered_where_the_spec_has_it() -> None:
    """A limit without a request is one."""
    limited = with_spec(a_new(), resources=Resources(limits={"cpu": "9"}))
    small = a_node("a", allocatable={"cpu": 8000, "pods": 9000})
    assert refused(limited, small)[1] == "lower cpu in spec.resources, or use a larger node"


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("node.kubernetes.io/disk-pressure", "free disk space on node a"),
        ("team", "add it to spec.tolerations, or remove it (kubectl taint nodes a team:NoSchedule-)"),
    ],
)
def test_a_taint_that_kubernetes_adds_again_is_not_to_be_removed(key: str, remedy: str) -> None:
    """Its cause is."""
    tainted = a_node("a", taints=(Taint(key=key, effect="NoSchedule"),))
    assert refused(a_new(), tainted)[1] == remedy
