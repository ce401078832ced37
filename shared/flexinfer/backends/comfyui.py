"""ComfyUI: image workflows; the source holds its models. Follows its documentation; not started in our tests."""

from collections.abc import Sequence

from flexinfer.backends.base import AMD, DOWNLOAD_KEYS, NVIDIA, SWITCH, TEXT, Backend, Key, Serving


def args(serving: Serving) -> Sequence[str]:
    """Return ComfyUI's command line; `--base-directory` holds `models/`."""
    config = serving.config
    made = ["main.py", "--listen", "$(POD_IP)", "--port", "8188"]
    if config.get("enableCORS", True):
        made.append("--enable-cors-header")
    for key, flag in (
        ("modelsPath", "--extra-model-paths-config"),
        ("customNodesPath", "--custom-path"),
        ("outputDirectory", "--output-directory"),
    ):
        if key in config:
            made += [flag, config[key]]
    return made


BACKEND = Backend(
    name="comfyui",
    title="ComfyUI",
    aliases=("comfy", "comfy-ui", "comfy_ui"),
    port=8188,
    images={NVIDIA: "comfyanonymous/comfyui:latest", AMD: "comfyanonymous/comfyui:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/system_stats",
    command=("python",),
    args=args,
    config={
        "enableCORS": Key(type=SWITCH),
        "modelsPath": Key(type=TEXT),
        "customNodesPath": Key(type=TEXT),
        "outputDirectory": Key(type=TEXT),
    }
    | DOWNLOAD_KEYS,
    capacity=lambda _spec: 1,
    loading_seconds=900,
    root=True,
    tried=False,
)
