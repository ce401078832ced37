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
        type=TEXT,
        flag="--dtype",
        choices=("auto", "half", "float16", "bfloat16", "float", "float32"),
        default="auto",
        doc="Type of weights and activations.",
    ),
    "maxModelLen": Key(
        type=INTEGER,
        flag="--max-model-len",
        least=1,
        default="as trained",
        doc="Context of a request, in tokens.",
    ),
    "gpuMemoryUtilization": Key(
        type=NUMBER,
        flag="--gpu-memory-utilization",
        most=1,
        default="that of its footprint",
        doc="Share of the GPU's memory that vLLM reserves, from 0 to 1.",
    ),
    "maxNumSeqs": Key(
        type=INTEGER,
        flag="--max-num-seqs",
        least=1,
        default=str(MAX_NUM_SEQS),
        doc="Requests that are worked on at once, at most.",
    ),
    "maxNumBatchedTokens": Key(
        type=INTEGER,
        flag="--max-num-batched-tokens",
        least=1,
        default=str(MAX_NUM_BATCHED_TOKENS),
        doc="Tokens that one step computes, at most.",
    ),
    "blockSize": Key(type=INTEGER, flag="--block-size", least=1, doc="Tokens in a block of the KV cache."),
    "numGpuBlocksOverride": Key(
        type=INTEGER,
        flag="--num-gpu-blocks-override",
        least=1,
        default="what there is room for",
        doc="Blocks of the KV cache.",
    ),
    "quantization": Key(
        type=TEXT,
        flag="--quantization",
        default="read from the model",
        doc="How the weights are quantised, such as awq or gptq.",
    ),
    "tokenizer": Key(
        type=TEXT,
        flag="--tokenizer",
        default="the model's own",
        doc="Path of another tokenizer in the container.",
    ),
    "kvCacheDtype": Key(
        type=TEXT, flag="--kv-cache-dtype", default="auto", doc="Type of the KV cache, such as auto or fp8."
    ),
    "attentionBackend": Key(
        type=TEXT, flag="--attention-backend", doc="Attention implementation, such as FLASH_ATTN."
    ),
    "cpuOffloadGb": Key(
        type=NUMBER,
        flag="--cpu-offload-gb",
        default="0",
        doc="Weights kept in the CPU's memory, in GiB for each GPU.",
    ),
    "offloadBackend": Key(
        type=TEXT, flag="--offload-backend", default="auto", doc="How weights are kept in the CPU's memory."
    ),
    "kvOffloadingSize": Key(
        type=NUMBER,
        flag="--kv-offloading-size",
        doc="CPU memory for KV cache that leaves the GPUs, in GiB over all of them. Takes the place of swapSpace.",
    ),
    "reasoningParser": Key(
        type=TEXT,
        flag="--reasoning-parser",
        doc="Parser of the reasoning part of an answer, such as deepseek_r1.",
    ),
    "enforceEager": Key(
        type=SWITCH, flag="--enforce-eager", default="false", doc="Use no CUDA graphs: less memory, slower."
    ),
    "trustRemoteCode": Key(
        type=SWITCH,
        flag="--trust-remote-code",
        default="false",
        doc="Run Python code that comes with the model.",
    ),
    "enablePrefixCaching": Key(
        type=SWITCH,
        flag="--enable-prefix-caching",
        off="--no-enable-prefix-caching",
        default="true",
        doc="Reuse the KV cache of prompts that begin alike.",
    ),
    "disableHybridKVCacheManager": Key(
        type=SWITCH,
        flag="--disable-hybrid-kv-cache-manager",
        off="--no-disable-hybrid-kv-cache-manager",
        doc="Keep one KV cache for all kinds of attention layers.",
    ),
    "disableLogStats": Key(
        type=SWITCH,
        flag="--disable-log-stats",
        default="false",
        doc="Log no statistics; its metrics then stay at 0.",
    ),
    "languageModelOnly": Key(
        type=SWITCH,
        flag="--language-model-only",
        default="false",
        doc="Load no parts for images and sound of a multi-modal model.",
    ),
    "cudagraphCaptureSizes": Key(
        type=WHOLE_NUMBERS,
        flag="--cudagraph-capture-sizes",
        doc="Batch sizes for which CUDA graphs are captured.",
    ),
    "maxCudagraphCaptureSize": Key(
        type=INTEGER,
        flag="--max-cudagraph-capture-size",
        least=1,
        doc="The largest batch for which a CUDA graph is captured.",
    ),
    "speculativeConfig": Key(
        type=OBJECT,
        flag="--speculative-config",
        doc="Speculative decoding, such as {method: ngram, num_speculative_tokens: 4}.",
    ),
    "compilationConfig": Key(
        type=OBJECT, flag="--compilation-config", doc="How the model is compiled at start."
    ),
    "limitMmPerPrompt": Key(
        type=OBJECT,
        flag="--limit-mm-per-prompt",
        doc="Images and the like in one prompt, at most, such as {image: 2}.",
    ),
    "mmProcessorKwargs": Key(
        type=OBJECT, flag="--mm-processor-kwargs", doc="Arguments of the multi-modal processor."
    ),
    "hfOverrides": Key(
        type=OBJECT, flag="--hf-overrides", doc="Values that replace those of the model's config.json."
    ),
}
READ_BELOW = {
    "servedModelName": Key(
        type=TEXT,
        becomes="--served-model-name",
        default="the Model's name",
        doc="Name under which vLLM knows the model.",
    ),
    "tensorParallelSize": Key(
        type=INTEGER,
        least=1,
        becomes="--tensor-parallel-size",
        default="spec.gpu.count",
        doc="GPUs that share each layer.",
    ),
    "enableToolCalling": Key(
        type=SWITCH, becomes="--enable-auto-tool-choice", default="false", doc="Let the model call tools."
    ),
    "toolCallParser": Key(
        type=TEXT,
        becomes="--tool-call-parser",
        default="hermes",
        doc="Parser of tool calls, with enableToolCalling.",
    ),
    "ggufFile": Key(
        type=PATH, becomes="the model's path", doc="A .gguf file of the folder or repository to serve."
    ),
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
VARIABLES = {
    key: Key(type=kind, becomes=variable, doc=doc) for key, (variable, kind, doc) in _VARIABLES.items()
}
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
