"""The keys of vLLM's server in `spec.config`, and the arguments that it may not be given. Pure data.

Names and choices: `vllm serve --help=all` of vLLM 0.32.0.
"""

from flexinfer.backends import arguments
from flexinfer.backends.options import (
    DOWNLOAD_KEYS,
    INTEGER,
    NUMBER,
    OBJECT,
    PATH,
    SWITCH,
    TEXT,
    WHOLE_NUMBERS,
    Key,
)

MAX_NUM_SEQS, MAX_NUM_BATCHED_TOKENS = 256, 2048
"""vLLM's defaults of --max-num-seqs and --max-num-batched-tokens for a server."""
FLAGS = {
    "dtype": Key(
        TEXT,
        "Type of weights and activations.",
        "--dtype",
        choices=("auto", "half", "float16", "bfloat16", "float", "float32"),
        default="auto",
    ),
    "maxModelLen": Key(
        INTEGER, "Context of a request, in tokens.", "--max-model-len", least=1, default="as trained"
    ),
    "gpuMemoryUtilization": Key(
        NUMBER,
        "Share of the GPU's memory that vLLM reserves, from 0 to 1.",
        "--gpu-memory-utilization",
        most=1,
        default="that of its footprint",
    ),
    "maxNumSeqs": Key(
        INTEGER,
        "Requests that are worked on at once, at most.",
        "--max-num-seqs",
        least=1,
        default=str(MAX_NUM_SEQS),
    ),
    "maxNumBatchedTokens": Key(
        INTEGER,
        "Tokens that one step computes, at most.",
        "--max-num-batched-tokens",
        least=1,
        default=str(MAX_NUM_BATCHED_TOKENS),
    ),
    "blockSize": Key(INTEGER, "Tokens in a block of the KV cache.", "--block-size", least=1),
    "numGpuBlocksOverride": Key(
        INTEGER,
        "Blocks of the KV cache.",
        "--num-gpu-blocks-override",
        least=1,
        default="what there is room for",
    ),
    "quantization": Key(
        TEXT,
        "How the weights are quantised, such as awq or gptq.",
        "--quantization",
        default="read from the model",
    ),
    "tokenizer": Key(
        TEXT, "Path of another tokenizer in the container.", "--tokenizer", default="the model's own"
    ),
    "kvCacheDtype": Key(
        TEXT, "Type of the KV cache, such as auto or fp8.", "--kv-cache-dtype", default="auto"
    ),
    "attentionBackend": Key(TEXT, "Attention implementation, such as FLASH_ATTN.", "--attention-backend"),
    "cpuOffloadGb": Key(
        NUMBER, "Weights kept in the CPU's memory, in GiB for each GPU.", "--cpu-offload-gb", default="0"
    ),
    "offloadBackend": Key(
        TEXT, "How weights are kept in the CPU's memory.", "--offload-backend", default="auto"
    ),
    "kvOffloadingSize": Key(
        NUMBER,
        "CPU memory for KV cache that leaves the GPUs, in GiB over all of them. Takes the place of swapSpace.",
        "--kv-offloading-size",
    ),
    "reasoningParser": Key(
        TEXT, "Parser of the reasoning part of an answer, such as deepseek_r1.", "--reasoning-parser"
    ),
    "enforceEager": Key(
        SWITCH, "Use no CUDA graphs: less memory, slower.", "--enforce-eager", default="false"
    ),
    "trustRemoteCode": Key(
        SWITCH, "Run Python code that comes with the model.", "--trust-remote-code", default="false"
    ),
    "enablePrefixCaching": Key(
        SWITCH,
        "Reuse the KV cache of prompts that begin alike.",
        "--enable-prefix-caching",
        off="--no-enable-prefix-caching",
        default="true",
    ),
    "disableHybridKVCacheManager": Key(
        SWITCH,
        "Keep one KV cache for all kinds of attention layers.",
        "--disable-hybrid-kv-cache-manager",
        off="--no-disable-hybrid-kv-cache-manager",
    ),
    "disableLogStats": Key(
        SWITCH, "Log no statistics; its metrics then stay at 0.", "--disable-log-stats", default="false"
    ),
    "languageModelOnly": Key(
        SWITCH,
        "Load no parts for images and sound of a multi-modal model.",
        "--language-model-only",
        default="false",
    ),
    "cudagraphCaptureSizes": Key(
        WHOLE_NUMBERS, "Batch sizes for which CUDA graphs are captured.", "--cudagraph-capture-sizes"
    ),
    "maxCudagraphCaptureSize": Key(
        INTEGER,
        "The largest batch for which a CUDA graph is captured.",
        "--max-cudagraph-capture-size",
        least=1,
    ),
    "speculativeConfig": Key(
        OBJECT,
        "Speculative decoding, such as {method: ngram, num_speculative_tokens: 4}.",
        "--speculative-config",
    ),
    "compilationConfig": Key(OBJECT, "How the model is compiled at start.", "--compilation-config"),
    "limitMmPerPrompt": Key(
        OBJECT, "Images and the like in one prompt, at most, such as {image: 2}.", "--limit-mm-per-prompt"
    ),
    "mmProcessorKwargs": Key(OBJECT, "Arguments of the multi-modal processor.", "--mm-processor-kwargs"),
    "hfOverrides": Key(OBJECT, "Values that replace those of the model's config.json.", "--hf-overrides"),
}
READ_BELOW = {
    "servedModelName": Key(
        TEXT,
        "Name under which vLLM knows the model.",
        becomes="--served-model-name",
        default="the Model's name",
    ),
    "tensorParallelSize": Key(
        INTEGER,
        "GPUs that share each layer.",
        least=1,
        becomes="--tensor-parallel-size",
        default="spec.gpu.count",
    ),
    "enableToolCalling": Key(
        SWITCH, "Let the model call tools.", becomes="--enable-auto-tool-choice", default="false"
    ),
    "toolCallParser": Key(
        TEXT, "Parser of tool calls, with enableToolCalling.", becomes="--tool-call-parser", default="hermes"
    ),
    "ggufFile": Key(PATH, "A .gguf file of the folder or repository to serve.", becomes="the model's path"),
}
_VARIABLES = {
    "enableAiter": ("VLLM_ROCM_USE_AITER", SWITCH, "AMD: use the kernels of AITER."),
    "disabledKernels": ("VLLM_DISABLED_KERNELS", TEXT, "Kernels that are not used, with commas between."),
    "pytorchCudaAllocConf": (
        "PYTORCH_CUDA_ALLOC_CONF",
        TEXT,
        "How PyTorch allocates memory, such as expandable_segments:True.",
    ),
}
VARIABLES = {key: Key(kind, doc, becomes=variable) for key, (variable, kind, doc) in _VARIABLES.items()}
CONFIG = READ_BELOW | FLAGS | VARIABLES | DOWNLOAD_KEYS
EXTRA = arguments.Extra(
    denied={
        **dict.fromkeys(
            (
                "--host",
                "--port",
                "--uds",
                "--model",
                "--root-path",
                "--ssl-*",
                "--enable-ssl-refresh",
                "--shutdown-timeout",
            ),
            arguments.OURS,
        ),
        **dict.fromkeys(
            ("--headless", "--grpc", "--grpc-port", "--api-server-count", "-asc", "--config"), arguments.OURS
        ),
        "--api-key": arguments.KEYS_OF_API,
        **dict.fromkeys(
            (
                "--middleware",
                "--tool-parser-plugin",
                "--reasoning-parser-plugin",
                "--io-processor-plugin",
                "--logits-processors",
                "--worker-cls",
                "--worker-extension-cls",
                "--scheduler-cls",
                "--distributed-executor-backend",
                "--model-class-overrides",
                "--log-config-file",
                "--logging-config",
                "--kv-transfer-config",
                "--ec-transfer-config",
                "--ec-manager-config",
                "--weight-transfer-config",
                "--tool-server",
                "--json-arg",
            ),
            arguments.CODE,
        ),
        **dict.fromkeys(("--download-dir", "--hf-token", "--hf-config-path"), arguments.ELSEWHERE),
        **dict.fromkeys(
            ("--device-ids", "--data-parallel-*", "--nnodes", "--node-rank", "--master-*"), arguments.DEVICES
        ),
        **dict.fromkeys(("--help", "-h"), arguments.ENDS),
        "--allowed-local-media-path": "it reaches files of the node",
        "--otlp-traces-endpoint": "it sends requests elsewhere",
    },
    spellings={
        "-tp": "--tensor-parallel-size",
        "-q": "--quantization",
        "-cc": "--compilation-config",
        "-sc": "--speculative-config",
        "-n": "--nnodes",
        "-r": "--node-rank",
        **dict.fromkeys(
            ("-dp", "-dpa", "-dpb", "-dpe", "-dph", "-dpl", "-dpm", "-dpn", "-dpp", "-dpr"),
            "--data-parallel-size",
        ),
    },
)
