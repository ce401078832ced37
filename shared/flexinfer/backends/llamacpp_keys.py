"""The keys of llama.cpp's server in `spec.config`, and the arguments that it may not be given. Pure data."""

from flexinfer.backends import arguments, options

SSE_PING_SECONDS = 5
"""How often a silent stream is written to. A stream whose server was stopped ends at the next write: after 30 s by default."""
PARALLEL = 4
"""Requests at once unless `parallel` says otherwise; they share one context."""
ALL_LAYERS = 999
BATCH, UBATCH = 2048, 512
"""llama-server's defaults of --batch-size and --ubatch-size."""
FIT_CONTEXT, FIT_MARGIN_MB = 4096, 1024
"""llama-server's defaults of --fit-ctx and --fit-target: the smallest context that it accepts, and what it leaves free of each GPU."""
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
CACHE_SHARES = {
    "f32": 2.0,
    "q8_0": 34 / 64,
    "q5_1": 24 / 64,
    "q5_0": 22 / 64,
    "q4_1": 20 / 64,
    "q4_0": 18 / 64,
    "iq4_nl": 18 / 64,
}
"""Type of a cached value -> its size as a part of 16 bits; the block sizes are those of ggml-common.h."""

FLAGS = {
    "contextSize": options.Key(
        options.INTEGER,
        "Context in tokens, shared by the requests in flight.",
        "--ctx-size",
        default="0: as trained, or what the GPU has room for",
    ),
    "batchSize": options.Key(
        options.INTEGER,
        "Tokens of a prompt that are submitted at once.",
        "--batch-size",
        least=1,
        default=str(BATCH),
    ),
    "ubatchSize": options.Key(
        options.INTEGER, "Tokens that are computed at once.", "--ubatch-size", least=1, default=str(UBATCH)
    ),
    "cacheTypeK": options.Key(
        options.TEXT, "Type of the cached keys.", "--cache-type-k", choices=CACHE_TYPES, default="f16"
    ),
    "cacheTypeV": options.Key(
        options.TEXT,
        "Type of the cached values; one that is quantised needs flashAttention.",
        "--cache-type-v",
        choices=CACHE_TYPES,
        default="f16",
    ),
    "chatTemplate": options.Key(
        options.TEXT,
        "Name of a built-in chat template, or the template itself.",
        "--chat-template",
        default="the file's own",
    ),
    "jinja": options.Key(
        options.SWITCH,
        "Use the Jinja engine for chat templates, which tool calls need.",
        "--jinja",
        off="--no-jinja",
        default="true",
    ),
    "embedding": options.Key(options.SWITCH, "Serve embeddings and no completions.", "--embeddings"),
    "reasoningFormat": options.Key(
        options.TEXT,
        "How the reasoning part of an answer is returned.",
        "--reasoning-format",
        choices=("none", "auto", "deepseek", "deepseek-legacy"),
        default="auto",
    ),
    "reasoningBudget": options.Key(
        options.INTEGER,
        "Tokens of reasoning at most; -1: no limit, 0: none.",
        "--reasoning-budget",
        least=-1,
        default="-1",
    ),
    "device": options.Key(
        options.TEXT, "Devices to use, as `llama-server --list-devices` names them.", "--device"
    ),
}
READ_BELOW = {
    "threads": options.Key(
        options.INTEGER,
        "CPU threads. More of them than the Pod has CPUs make it many times slower.",
        becomes="--threads",
        least=1,
        default="the CPUs of the Pod (limit, else request), else the cores of the node",
    ),
    "keepPromptCacheMB": options.Key(
        options.INTEGER,
        "Room for prompt caches that are kept over a stop, in MiB; for HF:// on a claim of its own.",
        becomes="--slot-save-path",
        default="0: none",
    ),
    "parallel": options.Key(
        options.INTEGER,
        "Requests that are worked on at once.",
        least=1,
        becomes="--parallel",
        default=str(PARALLEL),
    ),
    "nGPULayers": options.Key(
        options.INTEGER,
        "Layers that are kept on the GPU; -1: as many as there is room for.",
        becomes="--n-gpu-layers",
        least=-1,
        default="all of them; 0 on the CPU",
    ),
    "flashAttention": options.Key(
        options.SWITCH, "Use flash attention; no effect on the CPU.", becomes="--flash-attn on"
    ),
    "fitOff": options.Key(
        options.SWITCH,
        "Do not adjust unset options, such as contextSize, to the memory of the device.",
        becomes="-fit off",
    ),
    "metrics": options.Key(
        options.SWITCH, "Accepted and without effect: metrics are always served.", becomes="--metrics"
    ),
    "ggufFile": options.Key(
        options.PATH, "The .gguf file of a folder or repository; required for HF://.", becomes="--model"
    ),
    "modelFile": options.Key(options.PATH, "Another name of ggufFile.", becomes="--model"),
    "mmproj": options.Key(
        options.PATH,
        "Multi-modal projector file, beside the model or as an absolute path.",
        absolute=True,
        becomes="--mmproj",
    ),
}


MANAGED = (
    "--model",
    "--alias",
    "--host",
    "--port",
    "--metrics",
    "--sse-ping-interval",
    "--slot-save-path",
    "--api-prefix",
)
MANAGED_TOO = (
    "--kv-unified",
    "--no-kv-unified",
    "--split-mode",
    "--tensor-split",
    "--ssl-*",
    "--path",
    "--sleep-idle-seconds",
)
EXTRA = arguments.Extra(
    abbreviated=False,
    denied=dict.fromkeys((*MANAGED, *MANAGED_TOO), arguments.OURS)
    | dict.fromkeys(("--api-key", "--api-key-file"), arguments.KEYS_OF_API)
    | dict.fromkeys(
        (
            "--tools",
            "--tools-runtime",
            "--agent",
            "--mcp-servers-*",
            "--ui-mcp-proxy",
            "--webui-mcp-proxy",
            "--rpc",
            "--video-ffmpeg-dir",
        ),
        "it lets requests run programs, or reach other hosts",
    )
    | dict.fromkeys(
        (
            "--model-url",
            "--mmproj-url",
            "--hf-*",
            "--docker-repo",
            "--models-*",
            "--spec-draft-hf",
            "--*-default",
            "--*-spec",
        ),
        arguments.ELSEWHERE,
    )
    | dict.fromkeys(
        ("--help", "--usage", "--version", "--list-devices", "--cache-list", "--completion-bash"),
        arguments.ENDS,
    )
    | dict.fromkeys(
        ("--media-path", "--log-prompts-dir", "--log-file", "--lookup-cache-dynamic"),
        "it reaches files of the node",
    ),
    spellings={
        "-m": "--model",
        "-a": "--alias",
        "-c": "--ctx-size",
        "-b": "--batch-size",
        "-ub": "--ubatch-size",
        "-t": "--threads",
        "-np": "--parallel",
        "-ngl": "--n-gpu-layers",
        "--gpu-layers": "--n-gpu-layers",
        "-fa": "--flash-attn",
        "--fit": "-fit",
        "-ctk": "--cache-type-k",
        "-ctv": "--cache-type-v",
        "-dev": "--device",
        "-mm": "--mmproj",
        "-sm": "--split-mode",
        "-ts": "--tensor-split",
        "-kvu": "--kv-unified",
        "-no-kvu": "--no-kv-unified",
        "--embedding": "--embeddings",
        "-mu": "--model-url",
        "-mmu": "--mmproj-url",
        "-hf": "--hf-repo",
        "-hfr": "--hf-repo",
        "-hfd": "--hf-repo",
        "-hfrd": "--hf-repo",
        "-hff": "--hf-file",
        "-hft": "--hf-token",
        "-dr": "--docker-repo",
        "-ag": "--agent",
        "-h": "--help",
        "-cl": "--cache-list",
        "-lcd": "--lookup-cache-dynamic",
    },
)
"""Names: tools/server/README.md of llama.cpp, b11434."""
