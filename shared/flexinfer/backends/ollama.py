"""Ollama: serves a store that holds one model; ready once its own list names it."""

from collections.abc import Mapping, Sequence

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options, variables
from flexinfer.backends.failures import Failure
from flexinfer.backends.memory import Demand

PARALLEL = 4
BATCH = 512
"""Tokens that are computed at once (api/types.go of Ollama 0.34, `DefaultOptions`)."""
IMAGE = "ollama/ollama:latest"
SERVE = '[ -w "$HOME" ] || export HOME=/tmp; exec ollama serve "$@"'
"""Ollama keeps its key in its home directory; a user that the image does not know has none."""
DEVICES = {"hipVisibleDevices": "HIP_VISIBLE_DEVICES", "rocrVisibleDevices": "ROCR_VISIBLE_DEVICES"}


def tag_of(_name: str, spec: ModelSpec) -> str:
    """Return the name that Ollama lists the model by: a missing tag is `latest`, and its own registry and library are left out."""
    tag = spec.source.partition("://")[2].removeprefix("registry.ollama.ai/").removeprefix("library/")
    return tag if ":" in tag else f"{tag}:latest"


def args(_serving: base.Serving) -> Sequence[str]:
    """Return the shell's arguments: the script and its own name."""
    return [SERVE, "ollama"]


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return Ollama's settings; it never unloads the model by itself, since FlexInfer stops the whole engine."""
    config = serving.config
    environment = {
        "OLLAMA_HOST": "$(POD_IP):11434",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NUM_PARALLEL": str(capacity(serving.spec)),
        "OLLAMA_MODELS": serving.path,
        "OLLAMA_NOPRUNE": "1",  # the store is mounted read-only, and what is in it was verified
        "OLLAMA_NO_CLOUD": "1",  # what it serves is in the store; else it asks ollama.com for more at each start
    }
    if "contextSize" in config:
        environment["OLLAMA_CONTEXT_LENGTH"] = str(options.whole(config, "contextSize", 0))
    if serving.devices > 1:
        environment["OLLAMA_SCHED_SPREAD"] = "1"  # over all GPUs, also if fewer would hold the model
    if serving.vendor == base.AMD:
        environment |= {variable: str(config[key]) for key, variable in DEVICES.items() if key in config}
    return environment


def tuning(serving: base.Serving) -> Mapping[str, str]:
    """Return the threads of the CPUs that its Pod has, for the llama-server that Ollama starts, and what an AMD GPU needs."""
    threads = {"LLAMA_ARG_THREADS": str(serving.threads)} if serving.threads else {}
    return {**threads, **variables.amd(serving.vendor, serving.architecture)}


def capacity(spec: ModelSpec) -> int:
    """Return how many requests Ollama works on at once."""
    return options.whole(spec.config, "parallel", PARALLEL)


def demand(spec: ModelSpec, headers: Headers) -> Demand | None:
    """Return how Ollama uses memory: each request has a context of its own (llm/llama_server.go: `-c NumCtx * numParallel`).

    None where the spec leaves the context open: it is then 4,096 tokens, 32,768 or 262,144, by all memory of the GPUs that it gets
    (server/routes.go), which is not known before it is placed.
    """
    context_size = options.whole(spec.config, "contextSize", 0)
    if not context_size:
        return None
    context = min(context_size, headers.context_length or context_size)
    requests = capacity(spec)
    return Demand(
        context=context * requests, sequences=requests, batch=min(BATCH, context), looks_up_on_cpu=True
    )


FAILURES = (
    Failure(r"^Error: (.+)"),
    Failure(r"^ollama: (.+)"),
)
"""It starts whatever its store holds; what is wrong with a model is said in the answer to the first request."""

BACKEND = base.Backend(
    name="ollama",
    title="Ollama",
    port=11434,
    images={base.CPU: IMAGE, base.NVIDIA: IMAGE, base.AMD: "ollama/ollama:rocm"},
    schemes=("ollama",),
    health="/v1/models",
    api_paths=(*base.TEXT_PATHS, "/v1/responses", "/v1/messages"),
    expects=lambda serving: f'"{tag_of(serving.name, serving.spec)}"',
    command=("/bin/sh", "-c"),
    args=args,
    env=env,
    config={
        "parallel": options.Key(
            options.INTEGER,
            "Requests that are worked on at once.",
            least=1,
            becomes="OLLAMA_NUM_PARALLEL",
            default=str(PARALLEL),
        ),
        "contextSize": options.Key(
            options.INTEGER,
            "Context of a request, in tokens.",
            least=1,
            becomes="OLLAMA_CONTEXT_LENGTH",
            default="what Ollama has room for",
        ),
        "hipVisibleDevices": options.Key(
            options.TEXT, "AMD GPUs that HIP may use, by index.", becomes="HIP_VISIBLE_DEVICES"
        ),
        "rocrVisibleDevices": options.Key(
            options.TEXT, "AMD GPUs that ROCm may use, by index or uuid.", becomes="ROCR_VISIBLE_DEVICES"
        ),
    },
    local_program=base.LocalProgram(
        program="ollama",
        images=("ollama/ollama", "ollama/ollama:*", "docker.io/ollama/ollama:*"),
        paths=("ollama", "/bin/ollama", "/usr/bin/ollama", "/usr/local/bin/ollama"),
        default_args=("serve",),
        install="install it from https://ollama.com/download",
    ),
    tuning=tuning,
    denied_variables=(
        "LLAMA_ARG_HOST",
        "LLAMA_ARG_PORT",
        "LLAMA_ARG_API_KEY",
        "LLAMA_API_KEY",
        "OLLAMA_NOPRUNE",
        "OLLAMA_MODELS",
    ),
    capacity=capacity,
    demand=demand,
    failures=FAILURES,
    served_name=tag_of,
    proven="Ollama 0.34.0 with llama-server of 11434.0.0, on the CPU",
)
