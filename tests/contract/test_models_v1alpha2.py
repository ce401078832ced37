"""The page that the product promises to its users (models-v1alpha2.md in this folder), sentence by sentence, in its order.

Each test stands under the sentence that it proves; the last one proves that none is left out. Where a thing has another place than
the page says, ADR 0020 says so, and the test looks there.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
import yaml

from flexinfer import backends, sources
from flexinfer.agent.node_labels import labels_of
from flexinfer.api.durations import seconds
from flexinfer.api.model import Gpu, Model
from flexinfer.api.phase import Phase
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.services import STATUS_FIELDS
from flexinfer.cli.commands import COMMANDS
from flexinfer.cli.snapshot_page import Snapshot, page
from flexinfer.events.nodes import Device
from flexinfer.launcher.manifests import LaunchSettings, endpoint, engine_pod, service, serving, template
from flexinfer.placer.extender import refusals
from flexinfer.placer.extender_protocol import PodToSchedule
from flexinfer.prefetcher import jobs
from flexinfer.prefetcher.plan import FETCH, PrefetchSettings, plan_of
from flexinfer.sources import Location, Volume
from flexinfer.watcher.accepted import accepted
from localkube.apiserver.errors import ApiError
from tests.builders import NOW, a_group, a_holder, a_model, a_state
from tests.definitions import MODELS, ROOT, a_plain_model, a_registry, the_crd
from tests.unit.arbiter.cards import Card
from tests.unit.arbiter.test_turns import leavers
from tests.unit.placer.test_choice import HOMELAB, MAXWELL, RDNA3, a_box
from tests.unit.placer.test_decide import a_new, only_write, placement_of
from tests.unit.placer.test_extender import a_pod_of
from tests.unit.reaper.test_decide import GATES, HEARTBEAT, SERVING, changes, later

PAGE = ROOT / "tests" / "contract" / "models-v1alpha2.md"
ADR = ROOT / "docs" / "adr" / "0020-names-and-places.md"
FROM_HUB: dict[str, Any] = {"source": "HF://a/b", "config": {"ggufFile": "x-q4.gguf"}}
SETTINGS, PREFETCH = LaunchSettings(image="ours"), PrefetchSettings(image="ours")
T = TypeVar("T", bound=Callable[..., Any])
_quotes: list[str] = []


def says(sentence: str) -> Callable[[T], T]:
    """Note that the page says this, and that the test below proves it."""
    _quotes.append(sentence)
    return lambda test: test


def heading(text: str) -> None:
    """Note a line of the page that states nothing."""
    _quotes.append(text)


def stored(name: str = "llama", **spec: Any) -> Model:
    """Return a Model as the API server stores it, placed on a node with a GPU of its vendor. Raises ApiError if the CRD refuses it."""
    admitted = a_registry().admit(MODELS, a_plain_model(name, **spec), None, validation="Strict").obj
    model = msgspec.convert(admitted, Model)
    vendor = (model.spec.gpu or Gpu()).vendor if model.spec.devices else "cpu"
    placement = Placement(node="a", vendor=vendor, architecture="sm_89", binding="DevicePlugin")
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, placement=placement))


def refused(**spec: Any) -> str:
    """Return why the CRD refuses a spec."""
    with pytest.raises(ApiError) as error:
        stored(**spec)
    return str(error.value)


def pod_of(model: Model) -> dict[str, Any]:
    """Return the spec of the Pod in which a Model's engine runs."""
    rendered = template(model, SETTINGS)
    assert rendered is not None
    spec: dict[str, Any] = engine_pod(model, 0, rendered)["spec"]
    return spec


def location_of(model: Model) -> Location:
    """Return where a Model's weights are."""
    location = sources.locate(model)
    assert location is not None
    return location


def files_of(**config: Any) -> Any:
    """Return which files are downloaded of a repository on the hub."""
    model = stored(source="HF://a/b", config={"ggufFile": "x-q4.gguf"} | config)
    plan = plan_of(model, PREFETCH)
    assert plan is not None
    assert plan.kind == FETCH
    return plan.location.files


def field(path: str) -> dict[str, Any]:
    """Return the schema of a field of Model."""
    schema = the_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path.split("."):
        schema = schema["properties"][name]
    return dict(schema)


def annotations_of(model: Model) -> dict[str, str]:
    """Return the annotations of a Model's Service."""
    found: dict[str, str] = service(model, SETTINGS)["metadata"]["annotations"]
    return found


heading("Models (v1alpha2)")


@says("The recommended single-resource API for running models.")
def test_one_resource_is_enough() -> None:
    """From nothing but a Model follow the PVC, the download, the Pod and the Service."""
    model = stored(**FROM_HUB)
    plan = plan_of(model, PREFETCH)
    assert plan is not None
    kinds = [
        jobs.pvc(model, plan.pvc),
        jobs.job(model, plan.with_pvc("u"), PREFETCH),
        service(model, SETTINGS),
    ]
    assert [body["kind"] for body in kinds] == ["PersistentVolumeClaim", "Job", "Service"]
    assert pod_of(model)["containers"]


heading("Models (v1alpha2)")


@says("ai.flexinfer/v1alpha2 introduces a simplified CRD:")
def test_the_crd_is_of_that_group_and_version() -> None:
    """It is the one that is served and stored."""
    spec = the_crd()["spec"]
    assert (spec["group"], [v["name"] for v in spec["versions"] if v["served"]]) == (
        "ai.flexinfer",
        ["v1alpha2"],
    )


@says("kind: Model- One resource per served model")
def test_a_model_is_one_resource() -> None:
    """One engine, of which the Pod has a fixed name."""
    assert the_crd()["spec"]["names"]["kind"] == "Model"
    model = stored("llama")
    rendered = template(model, SETTINGS)
    assert rendered is not None
    assert engine_pod(model, 0, rendered)["metadata"]["name"] == "llama-0"


@says("- Optional GPU sharing via spec.gpu.shared")
def test_sharing_is_optional() -> None:
    """A Model without it is in no group."""
    assert not stored(gpu={}).spec.group
    assert stored(gpu={"shared": "card"}).spec.group == "card"


@says("- Optional scale-to-zero via spec.serverless")
def test_scale_to_zero_is_optional() -> None:
    """With `enabled: false` a Model always runs."""
    model = a_model(serverless={"enabled": False}, conditions=GATES)
    assert changes(a_state(model)) == {"default/llama": ("True", Reason.ALWAYS_ON)}


@says("- Optional proxy/LiteLLM discovery via annotations")
def test_discovery_is_optional() -> None:
    """Without `spec.litellm` there is no annotation of LiteLLM."""
    assert not [name for name in annotations_of(stored()) if name.startswith("litellm.")]
    assert [name for name in annotations_of(stored(litellm={})) if name.startswith("litellm.")]


heading("Cluster snapshot (homelab)")


@says(
    "For a point-in-time view of what is currently deployed in flexinfer-system (models, shared groups, LiteLLM aliases, "
    "benchmarks), see: docs/user/flexinfer-system-snapshot.md"
)
def test_a_command_writes_the_snapshot() -> None:
    """`flexinfer snapshot`, of any namespace: Models are not allowed in flexinfer-system itself."""
    assert "snapshot" in COMMANDS
    written = page(Snapshot([stored(litellm={"aliases": ["gpt-4"]})], [a_group(a_holder("llama"))], []))
    for part in ("llama", "card", "gpt-4", "enchmark"):
        assert part in written


heading("Minimal example")


@says(
    "apiVersion: ai.flexinfer/v1alpha2 kind: Model metadata: name: llama3-8b spec: backend: ollama source: ollama://llama3:8b"
)
def test_the_minimal_example_is_accepted() -> None:
    """By the CRD and by the watcher, without a warning."""
    condition = accepted(stored("llama3-8b", backend="ollama", source="ollama://llama3:8b"))
    assert (condition.status, condition.message) == ("True", "the spec is valid")


heading("spec fields (high-level) spec.backend (required)")


@says("Backend plugin name.")
def test_a_backend_is_required_and_is_the_name_of_a_plugin() -> None:
    """Any other name is refused with the list."""
    assert "backend" in field("spec")["required"]
    condition = accepted(a_model(backend="tgi"))
    assert condition.reason == Reason.UNKNOWN_BACKEND
    assert all(name in condition.message for name in backends.names())


@says(
    "Common values: ollama vllm mlc-llm (alias: mlc) llamacpp (alias: llama.cpp) diffusers comfyui vllm-omni"
)
def test_the_common_backends_are_there() -> None:
    """With their aliases."""
    for name in ("ollama", "vllm", "mlc-llm", "llamacpp", "diffusers", "comfyui", "vllm-omni"):
        assert backends.find(name) is not None
    assert backends.find("mlc") is backends.find("mlc-llm")
    assert backends.find("llama.cpp") is backends.find("llamacpp")
    assert stored(backend="llama.cpp").spec.backend == "llama.cpp"


@says("Exact images/args/ports are defined by the backend registry in services/flexinfer/backend/.")
@pytest.mark.parametrize("name", backends.names())
def test_image_arguments_and_port_are_those_of_the_registry(name: str) -> None:
    """Which is shared/flexinfer/backends (ADR 0020)."""
    backend = backends.find(name)
    assert backend is not None
    source = "ollama://m:1" if name == "ollama" else "pvc://models/m.gguf"
    model = a_model(backend=name, source=source, gpu=Gpu(vendor="nvidia"))
    [container] = pod_of(model)["containers"]
    view = serving(model, location_of(model).path)
    assert container["image"] == backend.image(view.vendor, {}, view.architecture)
    assert container["ports"][0]["containerPort"] == backend.port
    assert "shared/flexinfer/backends" in ADR.read_text()


heading("spec.source (required)")


@says("Model source URI.")
def test_a_source_is_required() -> None:
    """What is not a URI is refused."""
    assert "source" in field("spec")["required"]
    assert "must be one of HF://" in refused(source="meta-llama/Llama-3")


@says(
    "Supported formats: HF://org/model(HuggingFace model) ollama://model:tag(Ollama registry name) "
    "file:///path/to/model(host path inside the container) pvc://pvc-name/path(PVC-backed model path)"
)
def test_the_four_formats_lead_to_the_weights() -> None:
    """Downloaded from the hub or a registry, a path in the container, a path on a claim."""
    hub = location_of(stored(source="HF://org/model", config={"ggufFile": "x.gguf"})).files
    ollama = location_of(stored(backend="ollama", source="ollama://model:tag")).files
    assert hub is not None
    assert ollama is not None
    assert hub.repository == "org/model"
    assert (ollama.repository, ollama.revision) == ("library/model", "tag")
    assert location_of(stored(source="file:///path/to/model")) == Location(path="/path/to/model")
    claim = location_of(stored(source="pvc://pvc-name/path"))
    assert (claim.volume, claim.claim, claim.path) == (Volume.CLAIM, "pvc-name", "/models/path")


heading("Notes:")


@says(
    "- For backend: llamacpp with HF:// sources, set spec.config.ggufFile: <file>.gguf to select a GGUF file within the "
    "downloaded repo."
)
def test_the_engine_loads_the_gguf_file_that_is_named() -> None:
    """From the folder of the download."""
    model = stored(**FROM_HUB)
    arguments = pod_of(model)["containers"][0]["args"]
    assert arguments[arguments.index("--model") + 1] == f"{location_of(model).path}/x-q4.gguf"


@says("- FlexInfer now auto-prefetches only required llama.cpp files for HF GGUF repos:")
def test_only_what_is_required_is_downloaded() -> None:
    """Before any request, by a Job."""
    assert files_of().names == ("x-q4.gguf",)


@says(
    "- If spec.config.ggufFile is set, the prefetch job downloads just that GGUF (plus optional relative spec.config.mmproj)."
)
def test_the_projector_is_downloaded_beside_the_model() -> None:
    """A relative one; an absolute path is not of the repository."""
    assert files_of(mmproj="mmproj-f16.gguf").names == ("x-q4.gguf", "mmproj-f16.gguf")
    assert files_of(mmproj="/models/other/mmproj.gguf").names == ("x-q4.gguf",)


@says("- This avoids pulling full multi-quant repos by default.")
def test_a_repository_is_never_downloaded_whole_by_default() -> None:
    """Without the name of a file a Model of llama.cpp is refused."""
    condition = accepted(a_model(source="HF://a/b"))
    assert condition.status == "False"
    assert "spec.config.ggufFile" in condition.message


heading("- If")
heading("- Optional advanced download controls (all in spec.config):")


@says(
    "- hfAllowPatterns: list (or comma-separated string) passed to snapshot_download(..., allow_patterns=...)"
)
@pytest.mark.parametrize("patterns", [["*.json", "*.safetensors"], "*.json, *.safetensors"])
def test_patterns_say_what_is_downloaded(patterns: object) -> None:
    """As a list or as a string."""
    assert files_of(hfAllowPatterns=patterns).allow == ("*.json", "*.safetensors")


@says(
    "- hfIgnorePatterns: list (or comma-separated string) passed to snapshot_download(..., ignore_patterns=...)"
)
@pytest.mark.parametrize("patterns", [["*.bin", "*.pth"], "*.bin,*.pth"])
def test_patterns_say_what_is_not_downloaded(patterns: object) -> None:
    """As a list or as a string."""
    assert files_of(hfIgnorePatterns=patterns).ignore == ("*.bin", "*.pth")


@says("- hfRevision: revision/tag/commit passed to snapshot_download(..., revision=...)")
def test_a_revision_is_downloaded_as_it_is_named() -> None:
    """Another one is another folder."""
    assert files_of(hfRevision="v1.0").revision == "v1.0"
    assert files_of(hfRevision="v1.0").fingerprint != files_of(hfRevision="v1.1").fingerprint


heading("spec.gpu (optional)")


@says("Controls GPU allocation and optional time-sharing.")
def test_spec_gpu_allocates_devices() -> None:
    """As the Pod's request of the device plugin."""
    resources = pod_of(stored(gpu={"vendor": "nvidia"}))["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "1"


@says("vendor: auto, nvidia, amd, or cpu")
def test_the_vendors_are_these_four() -> None:
    """No other is accepted."""
    assert field("spec.gpu.vendor")["enum"] == ["auto", "nvidia", "amd", "cpu"]


@says("- shared: group name; models with the same value compete for the same GPU")
def test_members_of_a_group_compete_for_one_gpu() -> None:
    """What does not fit beside the others is queued or makes one of them leave."""
    card = Card()
    card.holds("coder", 14_000)
    card.waits("image", 12_288)
    assert leavers(card.observed(), NOW + 1) == [("coder", "it is idle")]


@says("- priority: higher wins preemption decisions")
def test_a_higher_priority_wins() -> None:
    """Against a holder that is in use, at once; at a lower one it waits."""
    for priority, leaves in ((200, ["coder"]), (50, [])):
        card = Card()
        card.holds("coder", 14_000)
        card.serves("coder")
        card.waits("image", 12_288, priority=priority)
        assert [name for name, _ in leavers(card.observed(), NOW + 1)] == leaves


@says("- count: GPUs required (default 1)")
def test_one_gpu_is_required_unless_count_says_more() -> None:
    """Both as the Pod requests them."""
    assert stored(gpu={}).spec.devices == 1
    resources = pod_of(stored(gpu={"vendor": "nvidia", "count": 2}))["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "2"


@says("- vramEstimateMB: hint for scheduling/binpacking")
def test_the_estimate_is_packed_into_the_tightest_card() -> None:
    """Of two that have room, the one with less."""
    small, large = a_box("small", msgspec.structs.replace(MAXWELL)), a_box("large", _nvidia_24())
    write = only_write(*small, *large, a_new(gpu=Gpu(vendor="nvidia", vram_estimate_mb=4000)))
    assert placement_of(write).node == "small"


def _nvidia_24() -> Device:
    return Device(
        uuid="GPU-9", name="RTX 3090", vendor="nvidia", architecture="sm_86", total_mb=24576, free_mb=24000
    )


heading("Notes:")


@says("- If you omit spec.gpu, the model runs CPU-only.")
def test_without_spec_gpu_no_gpu_is_requested() -> None:
    """Nor offered to the engine."""
    container = pod_of(stored())["containers"][0]
    assert "gpu" not in str(container.get("resources", {}))
    assert container["args"][container["args"].index("--n-gpu-layers") + 1] == "0"


@says("- If you set spec.gpu.vendor: cpu, omit spec.gpu.count (it is rejected by CRD validation).")
def test_a_count_without_gpus_is_rejected_by_the_crd() -> None:
    """The vendor alone is accepted."""
    assert "which uses no GPU" in refused(gpu={"vendor": "cpu", "count": 1})
    assert stored(gpu={"vendor": "cpu"}).spec.devices == 0


@says(
    "- If you set spec.gpu.vendor: nvidia or amd, the controller will only schedule on matching GPU nodes (it will not "
    "auto-fallback to the other vendor)."
)
def test_a_named_vendor_never_falls_back() -> None:
    """A card of the other vendor with more room stays unused."""
    wide = Gpu(vendor="nvidia", vram_estimate_mb=20000)
    assert only_write(*HOMELAB, a_new(gpu=wide)).condition.reason == Reason.NO_NODE_FITS
    assert placement_of(only_write(*HOMELAB, a_new(gpu=Gpu(vendor="amd")))).node == "new"


@says(
    "- vramEstimateMB is optional but strongly recommended on mixed GPU clusters (e.g., Maxwell 6GB + gfx1100 24GB)."
)
def test_the_estimate_is_optional_and_separates_small_cards_from_large_ones() -> None:
    """With it a large Model is kept off the Maxwell card."""
    assert stored(gpu={}).spec.gpu == Gpu()
    write = only_write(*HOMELAB, a_new(gpu=Gpu(vram_estimate_mb=20000)))
    assert placement_of(write).node == "new"


@says(
    "The scheduler extender uses it, along with the node agent's flexinfer.ai/gpu-free-memory annotation, to avoid placing "
    "large models onto low-VRAM nodes."
)
def test_the_extender_keeps_large_pods_off_small_nodes() -> None:
    """By the telemetry that the agent also writes into that annotation."""
    pod = msgspec.convert(a_pod_of("20000"), PodToSchedule)
    assert sorted(refusals(pod, ["old", "new"], a_state(*HOMELAB, connected=0.0), NOW + 1)) == ["old"]
    labels = labels_of([MAXWELL, RDNA3])
    assert labels is not None
    assert "'flexinfer.ai/gpu-free-memory': '24500'" in str(labels.patch())


heading("spec.serverless (optional)")


@says("Scale-to-zero behavior.")
def test_a_model_scales_to_zero() -> None:
    """And its Pod is deleted."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT)
    assert changes(state, NOW + 10) == {"default/llama": ("False", Reason.IDLE)}


@says("- enabled: default true (homelab-friendly)")
def test_scale_to_zero_is_the_default() -> None:
    """Without a word of it."""
    assert stored().spec.serverless.enabled


@says("- idleTimeout: scale down after this idle window")
def test_a_model_is_not_scaled_down_before_its_idle_window_is_over() -> None:
    """Nor while a request is in flight."""
    model = a_model(conditions=SERVING, serverless={"idle_timeout": "10s"})
    state = later(a_state(model, HEARTBEAT), NOW + 5, HEARTBEAT)
    assert changes(state, NOW + 9.9) == {}


@says("- coldStartTimeout: request timeout budget during activation")
def test_a_request_waits_for_a_cold_start_as_long_as_the_spec_says() -> None:
    """`test_gateway` sends one; here the budget is what the CRD says."""
    assert seconds(stored(serverless={"coldStartTimeout": "90s"}).spec.serverless.cold_start_timeout) == 90
    assert "between 1s and 2h" in refused(serverless={"coldStartTimeout": "3h"})


heading("spec.cache (optional)")


@says("Model caching strategy.")
def test_the_strategy_decides_where_weights_are_kept() -> None:
    """On a claim, whose files Memory keeps in the node's memory too, or on the node's disk."""
    strategies = {"SharedPVC": Volume.CLAIM, "Memory": Volume.CLAIM, "None": Volume.DISK}
    for strategy, volume in strategies.items():
        assert location_of(stored(cache={"strategy": strategy}, **FROM_HUB)).volume is volume


@says("strategy: Memory, SharedPVC, or None")
def test_the_strategies_are_these_three() -> None:
    """No other is accepted."""
    assert sorted(field("spec.cache.strategy")["enum"]) == ["Memory", "None", "SharedPVC"]


@says("- pvcName / storageClass / size: only relevant for SharedPVC")
def test_fields_of_the_claim_have_an_effect_where_there_is_one() -> None:
    """Memory has one too; elsewhere `Accepted` says that they have none."""
    cache = {"pvcName": "weights", "storageClass": "fast"}
    shared = stored(cache={"strategy": "SharedPVC", "storageClass": "fast", "size": "7Gi"}, **FROM_HUB)
    body = jobs.pvc(shared, "x")["spec"]
    assert (body["storageClassName"], body["resources"]["requests"]["storage"]) == ("fast", "7Gi")
    message = accepted(stored(cache={"strategy": "None", "size": "7Gi"} | cache, **FROM_HUB)).message
    assert (
        "spec.cache.pvcName, storageClass, size (only strategies SharedPVC and Memory use a PVC)" in message
    )


heading("Notes:")


@says(
    "- If spec.cache.strategy: SharedPVC and spec.cache.pvcName is omitted, the controller auto-creates a PVC named "
    "<model>-cache."
)
def test_a_claim_is_made_and_named_after_the_model() -> None:
    """One that the spec names is not made."""
    own = location_of(stored(cache={"strategy": "SharedPVC"}, **FROM_HUB))
    named = location_of(stored(cache={"strategy": "SharedPVC", "pvcName": "weights"}, **FROM_HUB))
    assert (own.claim, own.owned) == ("llama-cache", True)
    assert (named.claim, named.owned) == ("weights", False)


@says(
    "- If spec.source is pvc://..., FlexInfer mounts that PVC at /models and ignores spec.cache for volume provisioning."
)
def test_a_claim_that_is_the_source_is_mounted_and_the_cache_ignored() -> None:
    """And `Accepted` says so."""
    model = stored(source="pvc://weights/x.gguf", cache={"strategy": "SharedPVC"})
    pod = pod_of(model)
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert claims == ["weights"]
    assert "/models" in [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert "spec.cache" in accepted(model).message


heading("spec.config (optional)")


@says("Backend-specific configuration as JSON (passed through to the backend plugin).")
def test_the_backend_reads_its_configuration() -> None:
    """What it does not know is refused by name."""
    arguments = pod_of(stored(config={"contextSize": 512}))["containers"][0]["args"]
    assert "512" in arguments
    assert accepted(stored(config={"nope": 1})).reason == Reason.INVALID_CONFIG


@says("Example: spec: config: mode: server maxNumSequence: 4")
def test_the_example_of_a_configuration_reaches_the_engine() -> None:
    """MLC-LLM has these two keys."""
    model = stored(
        backend="mlc-llm",
        source="HF://mlc-ai/x",
        gpu={"vendor": "nvidia"},
        config={"mode": "server", "maxNumSequence": 4},
    )
    assert accepted(model).status == "True"
    words = " ".join(str(word) for word in _words(model))
    assert "--mode server" in words
    assert "max_num_sequence=4" in words


def _words(model: Model) -> list[str]:
    container = pod_of(model)["containers"][0]
    return [*container.get("command", []), *container.get("args", [])]


heading("Maxwell (sm_5x) notes")


@says(
    "On NVIDIA Maxwell GPUs (compute capability 5.x, e.g. GTX 980 Ti sm_52), FlexInfer enforces backend compatibility:"
)
def test_a_maxwell_card_is_known_by_its_architecture() -> None:
    """What can run there does."""
    write = only_write(*a_box("old", MAXWELL), a_new(gpu=Gpu(vendor="nvidia")))
    assert placement_of(write).node == "old"


@says("vllm, vllm-omni, and diffusers are rejected on Maxwell.")
@pytest.mark.parametrize("backend", ["vllm", "vllm-omni", "diffusers"])
def test_what_cannot_run_on_maxwell_is_rejected_there(backend: str) -> None:
    """The refusal names the architecture."""
    model = a_new(gpu=Gpu(vendor="nvidia"), backend=backend, source="HF://a/b")
    condition = only_write(*a_box("old", MAXWELL), model).condition
    assert condition.reason == Reason.NO_NODE_FITS
    assert "sm_52" in condition.message


@says("- mlc-llm requires a pre-compiled library (FP32 quantization only).")
@pytest.mark.parametrize(
    ("source", "config", "fits"),
    [
        ("HF://mlc-ai/x-q4f32_1-MLC", {"jitPolicy": "READONLY"}, True),
        ("HF://mlc-ai/x-q4f32_1-MLC", {"jitPolicy": "ON"}, False),
        ("HF://mlc-ai/x-q4f16_1-MLC", {"jitPolicy": "READONLY"}, False),
    ],
)
def test_mlc_needs_a_library_and_fp32_on_maxwell(source: str, config: dict[str, str], *, fits: bool) -> None:
    """It neither compiles there nor computes in half precision."""
    model = a_new(gpu=Gpu(vendor="nvidia"), backend="mlc-llm", source=source, config=config)
    condition = only_write(*a_box("old", MAXWELL), model).condition
    assert (condition.status == "True") is fits


@says("Prefer compiling to /models/<modelName>/maxwell-lib.so and setting jitPolicy: READONLY.")
def test_the_library_is_looked_for_where_the_page_says() -> None:
    """And the engine gets the flag that turns compilation off."""
    pod = pod_of(_on_maxwell({"jitPolicy": "READONLY"}))
    container = pod["containers"][0]
    assert "/models/llama/maxwell-lib.so" in container["args"]
    assert {"name": "MLC_JIT_POLICY", "value": "READONLY"} in container["env"]


def _on_maxwell(config: dict[str, str]) -> Model:
    placement = Placement(node="old", vendor="nvidia", architecture="sm_52", binding="DevicePlugin")
    return a_model(
        backend="mlc-llm",
        source="HF://mlc-ai/x-q4f32_1-MLC",
        gpu=Gpu(vendor="nvidia"),
        config=config,
        placement=placement,
    )


@says(
    "Example: spec: backend: mlc-llm gpu: vendor: nvidia config: jitPolicy: READONLY # Optional if you compile to "
    "/models/<modelName>/maxwell-lib.so: # modelLibPath: /models/<modelName>/maxwell-lib.so"
)
def test_the_example_for_maxwell_needs_no_path_of_a_library() -> None:
    """The path that the comment names is the same as without it."""
    without = _words(_on_maxwell({"jitPolicy": "READONLY"}))
    with_path = {"jitPolicy": "READONLY", "modelLibPath": "/models/llama/maxwell-lib.so"}
    assert _words(_on_maxwell(with_path)) == without


heading("spec.resources / spec.nodeSelector (optional)")


@says("Pod resources and node selection.")
def test_resources_and_selector_are_those_of_the_pod() -> None:
    """The placer has chosen a node that has the labels."""
    model = stored(resources={"requests": {"cpu": "2"}}, nodeSelector={"disk": "fast"})
    assert pod_of(model)["containers"][0]["resources"]["requests"]["cpu"] == "2"
    selected = only_write(*HOMELAB, a_new(node_selector={"disk": "fast"})).condition
    assert "disk=fast" in selected.message


@says("If you omit nodeSelector, the controller picks GPU nodes automatically.")
def test_a_gpu_node_is_picked_without_a_selector() -> None:
    """Not the one that has no GPU."""
    assert placement_of(only_write(*HOMELAB, a_new(gpu=Gpu()))).node in ("old", "new")


heading("spec.litellm (optional)")


@says("Adds litellm.flexinfer.ai/* annotations so a LiteLLM proxy can discover and route requests.")
def test_the_annotations_name_the_model_and_its_address() -> None:
    """`flexinfer litellm render` reads them."""
    annotations = annotations_of(stored(litellm={"aliases": ["gpt-4"]}))
    assert annotations["litellm.flexinfer.ai/served-model"] == "llama"
    assert annotations["litellm.flexinfer.ai/aliases"] == "gpt-4"
    assert annotations["litellm.flexinfer.ai/api-base"].endswith("/model/default/llama/v1")


heading("spec.serviceLabels (optional)")


@says('Semantic labels describing the model (for dynamic routing). Example: ["textgen","code","fast"].')
def test_labels_are_taken_and_handed_on() -> None:
    """`test_names` of the proxy routes by them."""
    model = stored(serviceLabels=["textgen", "code", "fast"])
    assert annotations_of(model)["flexinfer.ai/service-labels"] == "textgen,code,fast"


heading("status fields (high-level)")


@says("status reflects lifecycle + routing metadata:")
def test_each_field_of_the_status_has_one_owner() -> None:
    """Whose service writes it."""
    for name in ("phase", "endpoint", "lastActiveTime", "cache"):
        assert len([owner for owner, fields in STATUS_FIELDS.items() if name in fields]) == 1
        assert name in field("status")["properties"]


@says("phase: Idle, Pending, Loading, Ready, Preempted, Failed")
def test_the_phases_are_these_six() -> None:
    """In the code and in the CRD."""
    phases = ["Failed", "Idle", "Loading", "Pending", "Preempted", "Ready"]
    assert sorted(Phase) == phases
    assert sorted(p for p in field("status.phase")["enum"] if p) == phases


@says("endpoint: service URL (cluster-internal)")
def test_the_endpoint_is_an_address_inside_the_cluster() -> None:
    """Of the proxy, which starts the Model."""
    address = endpoint(stored(), SETTINGS)
    assert address.startswith("http://flexinfer-proxy.flexinfer-system.svc")
    assert address.endswith("/model/default/llama/v1")


@says("lastActiveTime: last time the proxy observed traffic (used for scale-to-zero)")
def test_the_last_time_of_traffic_is_written_by_who_scales_to_zero() -> None:
    """The reaper, from what the proxies report."""
    assert "lastActiveTime" in STATUS_FIELDS["reaper"]


@says("cache: cache readiness details (ready, plus the prefetch/check Job state)")
def test_the_status_of_the_cache_has_readiness_and_job() -> None:
    """Under these names."""
    assert {"ready", "jobName", "jobPhase", "progress"} <= set(field("status.cache")["properties"])


heading("Examples")


@says(
    "services/flexinfer/examples/v1alpha2/model-basic.yaml services/flexinfer/examples/v1alpha2/model-shared-gpu.yaml "
    "services/flexinfer/examples/v1alpha2/model-amd-rocm.yaml services/flexinfer/examples/v1alpha2/model-image-gen.yaml"
)
@pytest.mark.parametrize("name", ["model-basic", "model-shared-gpu", "model-amd-rocm", "model-image-gen"])
def test_the_examples_are_accepted(name: str) -> None:
    """They are in examples/ (ADR 0020)."""
    for body in yaml.safe_load_all((ROOT / "examples" / f"{name}.yaml").read_text()):
        a_registry().admit(MODELS, body, None, validation="Strict")
        assert accepted(msgspec.convert(body, Model)).status == "True"


def test_no_sentence_of_the_page_is_left_out() -> None:
    """Sentences and headings together, in their order, are the page; only bullets and the space between words may differ."""
    page, quoted = _letters(PAGE.read_text()), _letters(" ".join(_quotes))
    first = next((i for i, (a, b) in enumerate(zip(page, quoted, strict=False)) if a != b), None)
    assert first is None, f"{page[first : first + 60]!r} is quoted as {quoted[first : first + 60]!r}"
    assert len(page) == len(quoted)


def _letters(text: str) -> str:
    return "".join(word for word in text.split() if word != "-")
