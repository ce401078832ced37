"""ComfyUI: image workflows; the source holds its models. Follows its documentation; no test of ours starts it.

Flags: comfy/cli_args.py of ComfyUI 0.38.1. Its models are named in a file of extra paths, which is written when it starts.
"""

from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.backends import arguments, base, comfyui_prompts, options, variables

FOLDERS = (
    "checkpoints",
    "clip",
    "clip_vision",
    "configs",
    "controlnet",
    "diffusers",
    "diffusion_models",
    "embeddings",
    "gligen",
    "hypernetworks",
    "loras",
    "photomaker",
    "style_models",
    "text_encoders",
    "unet",
    "upscale_models",
    "vae",
    "vae_approx",
)
"""Kinds of models, each a folder (folder_paths.py of ComfyUI)."""
WRITE_AND_START = 'printf %s "$1" > /tmp/models.yaml && shift && exec python "$@"'
"""The file's text is an argument, so the shell never interprets it."""
CONFIG = {
    "enableCORS": options.Key(
        options.SWITCH,
        "Let browsers call the API from any origin.",
        default="true",
        becomes="--enable-cors-header",
    ),
    "modelsPath": options.Key(
        options.TEXT,
        "YAML file inside the container that lists further model folders.",
        "--extra-model-paths-config",
    ),
    "customNodesPath": options.Key(
        options.TEXT,
        "Folder of custom nodes inside the container; their code runs in the engine.",
        becomes="custom_nodes of the model paths",
    ),
    "outputDirectory": options.Key(
        options.TEXT,
        "Folder inside the container that images are written to.",
        "--output-directory",
        default="ComfyUI's own",
    ),
}
EXTRA = arguments.Extra(
    denied={
        **dict.fromkeys(
            ("--listen", "--port", "--tls-*", "--base-directory", "--models-directory"), arguments.OURS
        ),
        **dict.fromkeys(("--enable-manager", "--enable-manager-*", "--front-end-*"), arguments.CODE),
        **dict.fromkeys(
            ("--cuda-device", "--default-device", "--directml", "--oneapi-device-selector", "--cpu"),
            arguments.DEVICES,
        ),
        **dict.fromkeys(("--help", "-h", "--quick-test-for-ci", "--list-feature-flags"), arguments.ENDS),
    },
)


def model_paths(serving: base.Serving) -> str:
    """Return the file of extra paths, as JSON, which is YAML: the source is a folder of one kind, or holds a folder of each kind."""
    folder, _, last = serving.path.rstrip("/").rpartition("/")
    paths = {last: last} if last in FOLDERS else {kind: kind for kind in FOLDERS}
    paths |= {} if last in FOLDERS else {"checkpoints": "checkpoints\n."}
    nodes = serving.config.get("customNodesPath")
    extra = {"custom_nodes": str(nodes)} if nodes else {}
    root = folder if last in FOLDERS else serving.path
    return msgspec.json.encode({"flexinfer": {"base_path": root, **paths, **extra}}).decode()


def args(serving: base.Serving) -> Sequence[str]:
    """Return the shell's arguments: the script, its own name, the file of paths, and ComfyUI's command line."""
    line = ["main.py", "--listen", "$(POD_IP)", "--port", "8188"]
    if serving.config.get("enableCORS", True):
        line.append("--enable-cors-header")
    line += ["--extra-model-paths-config", "/tmp/models.yaml"]  # noqa: S108 -- inside its container
    return [WRITE_AND_START, "comfyui", model_paths(serving), *line, *options.flags(serving.config, CONFIG)]


def tuning(serving: base.Serving) -> Mapping[str, str]:
    """Return what PyTorch needs on an AMD GPU."""
    return variables.amd_torch(serving.vendor, serving.architecture)


BACKEND = base.Backend(
    name="comfyui",
    title="ComfyUI",
    aliases=("comfy", "comfy-ui", "comfy_ui"),
    port=8188,
    images={base.NVIDIA: "comfyanonymous/comfyui:latest", base.AMD: "comfyanonymous/comfyui:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/system_stats",
    api_paths=("/prompt", "/queue", "/history", "/upload/image", "/upload/mask"),
    read_paths=(
        "/prompt",
        "/queue",
        "/history",
        "/history/*",
        "/view",
        "/object_info",
        "/object_info/*",
        "/system_stats",
    ),
    operations=comfyui_prompts.PROMPTS,
    command=("/bin/sh", "-c"),
    args=args,
    config=CONFIG | options.DOWNLOAD_KEYS,
    extra=EXTRA,
    tuning=tuning,
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
)
