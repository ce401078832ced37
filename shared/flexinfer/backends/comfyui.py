"""ComfyUI: image workflows; the source holds its models. Follows its documentation; no test of ours starts it."""

from collections.abc import Sequence

from flexinfer.backends import base, options

CONFIG = {
    "enableCORS": options.Key(
        type=options.SWITCH,
        doc="Let browsers call the API from any origin; true by default.",
        becomes="--enable-cors-header",
    ),
    "modelsPath": options.Key(
        type=options.TEXT,
        doc="YAML file inside the container that lists further model folders.",
        flag="--extra-model-paths-config",
    ),
    "customNodesPath": options.Key(
        type=options.TEXT, doc="Folder of custom nodes inside the container.", flag="--custom-path"
    ),
    "outputDirectory": options.Key(
        type=options.TEXT,
        doc="Folder inside the container that images are written to.",
        flag="--output-directory",
    ),
}


def args(serving: base.Serving) -> Sequence[str]:
    """Return ComfyUI's command line."""
    arguments = ["main.py", "--listen", "$(POD_IP)", "--port", "8188"]
    if serving.config.get("enableCORS", True):
        arguments.append("--enable-cors-header")
    return arguments + options.flags(serving.config, CONFIG)


BACKEND = base.Backend(
    name="comfyui",
    title="ComfyUI",
    aliases=("comfy", "comfy-ui", "comfy_ui"),
    port=8188,
    images={base.NVIDIA: "comfyanonymous/comfyui:latest", base.AMD: "comfyanonymous/comfyui:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/system_stats",
    api_paths=(
        "/prompt",
        "/queue",
        "/history",
        "/history/*",
        "/view",
        "/upload/image",
        "/upload/mask",
        "/object_info",
        "/object_info/*",
        "/system_stats",
    ),
    command=("python",),
    args=args,
    config=CONFIG | options.DOWNLOAD_KEYS,
    experimental_architectures=(
        base.ArchitectureRule(
            vendor=base.NVIDIA,
            prefix="sm_5",
            reason="PyTorch for CUDA 12.8 and newer holds no code for Maxwell; an image with CUDA 12.6 does",
            source="https://github.com/pytorch/pytorch/blob/main/RELEASE.md#pytorch-cuda-support-matrix",
        ),
        *base.OLD_CUDA,
        *base.WITHOUT_ROCM,
    ),
    most_devices=1,
    capacity=lambda _spec: 1,
    loading_seconds=900,
    root=True,
    tried=False,
)
