"""Ollama: pulls what it serves by itself when it starts; ready once its own list names the model."""

from collections.abc import Mapping, Sequence

from flexinfer.api.model import ModelSpec
from flexinfer.backends.base import AMD, CPU, INTEGER, NVIDIA, TEXT, Backend, Key, Serving, whole

PARALLEL = 4
IMAGE = "ollama/ollama:latest"
SERVE_AND_PULL = (
    '[ -w "$HOME" ] || export HOME=/tmp; '
    'ollama serve & server=$!; trap "kill -TERM $server" TERM INT; '
    "until ollama list >/dev/null 2>&1; do kill -0 $server || exit 1; sleep 0.2; done; "
    'ollama pull "$1" || exit 1; wait $server'
)
"""`ollama serve` alone pulls nothing; the name arrives as an argument, so no shell ever reads it.

It keeps what it pulls at home; a user whom the image does not know has none there."""


def tag_of(_name: str, spec: ModelSpec) -> str:
    """Return the name that Ollama lists the model by: a missing tag is `latest`."""
    tag = spec.source.partition("://")[2]
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def args(serving: Serving) -> Sequence[str]:
    """Return the shell's arguments: the script, its own name, and what it pulls."""
    return [SERVE_AND_PULL, "ollama", tag_of(serving.name, serving.spec)]


def env(serving: Serving) -> Mapping[str, str]:
    """Return Ollama's settings; the Model's life is ours to decide, so it never unloads by itself."""
    made = {
        "OLLAMA_HOST": "$(POD_IP):11434",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NUM_PARALLEL": str(capacity(serving.spec)),
    }
    config = serving.config
    if "contextSize" in config:
        made["OLLAMA_CONTEXT_LENGTH"] = str(whole(config, "contextSize", 0))
    if serving.vendor == AMD:
        for key, name in (
            ("hipVisibleDevices", "HIP_VISIBLE_DEVICES"),
            ("rocrVisibleDevices", "ROCR_VISIBLE_DEVICES"),
        ):
            if key in config:
                made[name] = str(config[key])
    return made


def capacity(spec: ModelSpec) -> int:
    """Return how many requests Ollama is told to work on at once."""
    return whole(spec.config, "parallel", PARALLEL)


BACKEND = Backend(
    name="ollama",
    title="Ollama",
    port=11434,
    images={CPU: IMAGE, NVIDIA: IMAGE, AMD: "ollama/ollama:rocm"},
    schemes=("ollama",),
    health="/v1/models",
    expects=lambda serving: f'"{tag_of(serving.name, serving.spec)}"',
    command=("/bin/sh", "-c"),
    args=args,
    env=env,
    config={
        "parallel": Key(type=INTEGER, least=1),
        "contextSize": Key(type=INTEGER, least=1),
        "hipVisibleDevices": Key(type=TEXT),
        "rocrVisibleDevices": Key(type=TEXT),
    },
    capacity=capacity,
    served_name=tag_of,
)
