"""How a Pod gets its devices: the manifests of each binding, and the ResourceClaim, which is made just before the gate opens."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flexinfer.api.kinds import PODS
from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.reasons import Reason
from flexinfer.launcher.bind import resource_claim
from flexinfer.launcher.effects import Purpose, Start, Stop
from flexinfer.launcher.manifests import engine_pod, template
from flexinfer.launcher.memory import CreationRejected, remember
from flexinfer.runtime.kubernetes.api import ConflictError, ForbiddenError
from flexinfer.sources.pod import PodDefaults
from flexinfer.state.actions import RequeueAt
from tests.builders import NOW
from tests.unit.launcher.acting import a_world, pod, ready_message, ready_of, started
from tests.unit.launcher.deciding import decide, decided, outcome
from tests.unit.launcher.models import IDLE, SETTINGS, a_start, holding, its_pod, observed
from tests.unit.launcher.world import CutOffError, World, open_gate_of

GOLDEN = Path(__file__).parent / "golden"
DRIVER = "gpu.nvidia.com"


def placed(*devices: PlacedDevice, vendor: str = "nvidia", **binding: Any) -> Placement:
    """Return a placement on these devices."""
    architecture = "sm_86" if vendor == "nvidia" else "gfx1100"
    return Placement(node="a", vendor=vendor, architecture=architecture, devices=devices, **binding)


def a_device(uuid: str = "GPU-1", memory: int = 10240, **facts: Any) -> PlacedDevice:
    """Return a device of a placement."""
    return PlacedDevice(uuid=uuid, memory_mb=memory, **facts)


RADEON = a_device("GPU-00112233445566aa", pci_address="0000:03:00.0")
BINDINGS: dict[str, Placement] = {
    "nvidia-dra": placed(a_device(), binding="DRA", driver=DRIVER),
    "nvidia-dra-shared": placed(a_device(), a_device("GPU-2", 6144), binding="DRA", driver=DRIVER, shared=True),
    "amd-dra": placed(RADEON, vendor="amd", binding="DRA", driver="gpu.amd.com"),
    "nvidia-visible": placed(
        a_device(), a_device("GPU-2"), binding="Visible", runtime_class_name="nvidia", shared=True
    ),
    "amd-visible": placed(
        a_device(RADEON.uuid), vendor="amd", binding="Visible", runtime_class_name="amd", shared=True
    ),
    "nvidia-plugin": placed(a_device(), binding="DevicePlugin"),
    "nvidia-plugin-class": placed(a_device(), binding="DevicePlugin", runtime_class_name="nvidia"),
}  # fmt: skip


def a_bound(placement: Placement, *gates: Any, **changes: Any) -> Model:
    """Return a Model that may start on a placement, unless `gates` are given."""
    gpu = Gpu(vendor=placement.vendor, count=len(placement.devices))
    facts: dict[str, Any] = {"name": "m", "gpu": gpu, "placement": placement, "version": 7}
    return a_start(*gates, **(facts | changes))


def manifests(model: Model) -> list[dict[str, Any]]:
    """Return the Pod of a Model, and its ResourceClaim if it has one."""
    rendered = template(model, SETTINGS)
    assert rendered is not None
    body = engine_pod(model, 3, rendered)
    created = msgspec.convert(body | {"metadata": body["metadata"] | {"uid": "pod-uid"}}, PODS.type)
    names = [claim.resource_claim_name for claim in created.spec.resource_claims]
    return [body, *(resource_claim(model, created, name) for name in names)]


@pytest.mark.parametrize("name", BINDINGS)
def test_a_binding_becomes_the_manifests_that_are_written_down(name: str) -> None:
    """A changed manifest is a changed file, which shows in the review (G20)."""
    assert json.loads((GOLDEN / f"{name}.json").read_text()) == manifests(a_bound(BINDINGS[name]))


def variables(model: Model) -> dict[str, str]:
    """Return the engine's environment."""
    body = manifests(model)[0]
    return {v["name"]: v.get("value", "") for v in body["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("name", BINDINGS)
def test_only_a_container_runtime_is_told_the_devices_by_a_variable(name: str) -> None:
    """A variable of the Pod would win over that of a device plugin, and name another device than the plugin gave."""
    shown = [key for key in variables(a_bound(BINDINGS[name])) if key.endswith("VISIBLE_DEVICES")]
    assert bool(shown) == name.endswith("-visible")


DEFAULTS = PodDefaults(pull_secrets=("house", "other"), runtime_class="kata")
CLASSES = [
    pytest.param("nvidia-visible", "", PodDefaults(), "nvidia", id="the binding's"),
    pytest.param("nvidia-plugin-class", "", DEFAULTS, "nvidia", id="the binding's before the settings'"),
    pytest.param("nvidia-visible", "nvidia-cdi", DEFAULTS, "nvidia-cdi", id="the user's before all"),
    pytest.param("nvidia-dra", "nvidia-cdi", PodDefaults(), "nvidia-cdi", id="the user's with a claim"),
    pytest.param("nvidia-plugin", "", DEFAULTS, "kata", id="the settings'"),
    pytest.param("nvidia-plugin", "", PodDefaults(), None, id="none"),
]


@pytest.mark.parametrize(("binding", "own", "defaults", "used"), CLASSES)
def test_the_runtime_class_is_the_users_else_the_bindings_else_that_of_the_settings(
    binding: str, own: str, defaults: PodDefaults, used: str | None
) -> None:
    """The variable of the binding Visible stays: a class of the user reads it too, or has a way of its own."""
    model = a_bound(BINDINGS[binding], runtime_class=own)
    rendered = template(model, msgspec.structs.replace(SETTINGS, pods=defaults))
    assert rendered is not None
    assert rendered.spec.get("runtimeClassName") == used


@pytest.mark.parametrize(
    ("own", "defaults", "used"),
    [
        ((), PodDefaults(), None),
        ((), DEFAULTS, ["house", "other"]),
        (("mine",), DEFAULTS, ["mine"]),
    ],
)
def test_the_pull_secrets_are_the_users_else_those_of_the_settings(
    own: tuple[str, ...], defaults: PodDefaults, used: list[str] | None
) -> None:
    """Another Secret is another template: a Pod that cannot be pulled is created again with it."""
    bare = template(a_bound(BINDINGS["nvidia-plugin"]), SETTINGS)
    model = a_bound(BINDINGS["nvidia-plugin"], pull_secrets=own)
    rendered = template(model, msgspec.structs.replace(SETTINGS, pods=defaults))
    assert rendered is not None and bare is not None
    secrets = rendered.spec.get("imagePullSecrets")
    assert (secrets and [secret["name"] for secret in secrets]) == used
    assert (rendered.digest == bare.digest) == (used is None)


def digest(placement: Placement) -> str:
    """Return the digest of the template of a Model on a placement."""
    rendered = template(a_bound(placement), SETTINGS)
    assert rendered is not None
    return rendered.digest


def test_other_devices_are_another_template_and_another_footprint_is_none() -> None:
    """A claim cannot be changed; a running engine is not restarted for a number."""
    by_dra = BINDINGS["nvidia-dra"]
    assert digest(by_dra) != digest(msgspec.structs.replace(by_dra, devices=(a_device("GPU-2"),)))
    assert digest(by_dra) == digest(msgspec.structs.replace(by_dra, devices=(a_device(memory=1),)))


def test_two_pods_of_one_name_name_different_claims() -> None:
    """A claim that is in use lingers after its deletion: the next Pod must not wait for it."""
    names = {
        manifests(a_bound(BINDINGS["nvidia-dra"], version=version))[0]["spec"]["resourceClaims"][0][
            "resourceClaimName"
        ]
        for version in (7, 8, 9)
    }
    assert len(names) == 3
    assert all(name.startswith("m-0-gpu-") for name in names)


BY_DRA = BINDINGS["nvidia-dra-shared"]


def to_start(placement: Placement = BY_DRA) -> Model:
    """Return a Model that is to start by DRA."""
    return a_bound(placement, name="llama")


def claims(world: World) -> list[dict[str, Any]]:
    """Return the claims that exist."""
    return [thing for (plural, *_), thing in world.things.items() if plural == "resourceclaims"]


async def test_the_claim_exists_before_the_gate_opens_and_belongs_to_the_pod() -> None:
    """So the garbage collector deletes it with the Pod."""
    world, runtime = a_world(to_start())
    await started(world, runtime)
    assert world.calls.index("create resourceclaims") < world.calls.index("patch pods")
    assert open_gate_of(pod(world))
    [claim] = claims(world)
    [owner] = claim["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Pod", pod(world)["metadata"]["uid"])
    assert claim["metadata"]["name"] == pod(world)["spec"]["resourceClaims"][0]["resourceClaimName"]


async def test_no_claim_is_made_for_a_start_that_was_overtaken() -> None:
    """It would hold a device for nothing (G6)."""
    world, runtime = a_world(to_start())

    def becomes_idle(call: str) -> None:
        if call == "get models":
            world.put("models", msgspec.to_builtins(a_bound(BY_DRA, *IDLE, name="llama")))

    world.between = becomes_idle
    await started(world, runtime)
    assert claims(world) == []
    assert not open_gate_of(pod(world))


CALLS = 6


@pytest.mark.parametrize("cut", range(CALLS))
async def test_a_start_that_is_cut_off_is_continued_with_one_claim(cut: int) -> None:
    """At every call: the successor finds what there is."""
    world, runtime = a_world(to_start())
    world.cut = cut
    try:
        await started(world, runtime)
    except CutOffError:
        world.cut = -1
        await started(world, runtime)
    assert open_gate_of(pod(world))
    assert len(claims(world)) == 1


def before(call: str, change: Callable[[], object]) -> Callable[[str], None]:
    """Return what does something once, before the first call of a kind."""
    left = [change]

    def between(current: str) -> None:
        if current == call and left:
            left.pop()()

    return between


async def test_a_claim_of_an_earlier_placement_costs_its_pod_which_is_gated() -> None:
    """A predecessor made it, then the placement got another footprint."""
    world, runtime = a_world(to_start())
    world.between = before("patch pods", lambda: raise_(ConflictError("cut off", 409)))
    with pytest.raises(ConflictError):
        await started(world, runtime)
    smaller = msgspec.structs.replace(BY_DRA, devices=(a_device(memory=512), a_device("GPU-2", 512)))
    world.put("models", msgspec.to_builtins(to_start(smaller)))
    with pytest.raises(ConflictError, match="is of an earlier placement"):
        await started(world, runtime)
    assert world.find("pods", "llama-0") is None


def raise_(error: Exception) -> None:
    """Raise an error."""
    raise error


async def test_a_foreign_claim_of_that_name_is_left_alone() -> None:
    """It is named."""
    world, runtime = a_world(to_start())

    def put() -> None:
        name = pod(world)["spec"]["resourceClaims"][0]["resourceClaimName"]
        world.put("resourceclaims", {"metadata": {"name": name}, "spec": {}})

    world.between = before("create resourceclaims", put)
    await started(world, runtime)
    assert ready_of(world) == ("False", Reason.NAME_TAKEN, 0)
    assert "a ResourceClaim named llama-0-gpu-" in ready_message(world)
    assert not open_gate_of(pod(world))


async def test_a_claim_that_a_quota_rejects_is_reported_and_its_pod_stays_gated() -> None:
    """`<class>.deviceclass.resource.k8s.io/devices` counts claims."""
    world, runtime = a_world(to_start())
    quota = ForbiddenError("exceeded quota: gpus", 403)
    world.between = before("create resourceclaims", lambda: raise_(quota))
    await started(world, runtime)
    assert ready_of(world) == ("False", Reason.CREATE_REFUSED, 0)
    assert ready_message(world) == "the API server rejected its ResourceClaim: exceeded quota: gpus"
    assert not open_gate_of(pod(world))


def test_a_rejected_claim_is_tried_again_like_a_pod_and_given_up_at_the_deadline() -> None:
    """After a back-off; the gated Pod is deleted in the end."""
    refused = a_bound(BY_DRA, ready=("False", Reason.CREATE_REFUSED))
    gated = its_pod(refused, name=refused.pod_name, gates=("flexinfer.ai/turn-0",), node="", running=False)
    state, memory = observed(refused, holding(refused, gated))
    rejected = remember(memory, CreationRejected(key=refused.key, uid=refused.uid), NOW)
    [wait] = decide(state, rejected, NOW, settings=SETTINGS)
    assert isinstance(wait, RequeueAt)
    assert [type(a) for a in decide(state, rejected, wait.at, settings=SETTINGS)] == [RequeueAt, Start]
    [given_up] = decide(state, rejected, NOW + SETTINGS.loading_seconds, settings=SETTINGS)
    assert outcome(given_up) == ("False", Reason.LOADING_TIMEOUT)
    timeout = a_bound(BY_DRA, ready=("False", Reason.LOADING_TIMEOUT))
    [clear] = decided(timeout, holding(timeout, gated))
    assert isinstance(clear, Stop)
    assert clear.purpose is Purpose.CLEAR
