"""Every key of every backend: a value, and what it becomes on the engine's command line and in its environment."""

from typing import Any

from flexinfer import backends
from flexinfer.api.model import Gpu, ModelSpec
from flexinfer.backends import Serving

Becomes = tuple[Any, str, str]
"""A value; the arguments that it adds to the command line; the variables that it adds or changes. Both separated by blanks."""

_DOWNLOADS: dict[str, Becomes] = {
    "allowUnsafeFormats": (True, "", ""),
    "hfRevision": ("main", "", ""),
    "hfAllowPatterns": (["*.gguf"], "", ""),
    "hfIgnorePatterns": (["*.bin"], "", ""),
}
_EXTRA: dict[str, Becomes] = {"extraArgs": (["--some-flag", "7"], "--some-flag 7", "")}
_VLLM: dict[str, Becomes] = {
    **_DOWNLOADS,
    **_EXTRA,
    "servedModelName": ("chat", "chat", ""),
    "tensorParallelSize": (2, "--tensor-parallel-size 2", ""),
    "enableToolCalling": (True, "--enable-auto-tool-choice --tool-call-parser hermes", ""),
    "toolCallParser": ("mistral", "", ""),
    "ggufFile": ("a/q4.gguf", "/models/m/a/q4.gguf", ""),
    "dtype": ("float16", "--dtype float16", ""),
    "maxModelLen": (8192, "--max-model-len 8192", ""),
    "gpuMemoryUtilization": (0.9, "--gpu-memory-utilization 0.9", ""),
    "maxNumSeqs": (8, "--max-num-seqs 8", ""),
    "maxNumBatchedTokens": (4096, "--max-num-batched-tokens 4096", ""),
    "blockSize": (16, "--block-size 16", ""),
    "numGpuBlocksOverride": (512, "--num-gpu-blocks-override 512", ""),
    "quantization": ("awq", "--quantization awq", ""),
    "tokenizer": ("/models/t", "--tokenizer /models/t", ""),
    "kvCacheDtype": ("fp8", "--kv-cache-dtype fp8", ""),
    "attentionBackend": ("FLASH_ATTN", "--attention-backend FLASH_ATTN", ""),
    "cpuOffloadGb": (4.0, "--cpu-offload-gb 4", ""),
    "offloadBackend": ("uva", "--offload-backend uva", ""),
    "kvOffloadingSize": (2.5, "--kv-offloading-size 2.5", ""),
    "reasoningParser": ("deepseek_r1", "--reasoning-parser deepseek_r1", ""),
    "enforceEager": (True, "--enforce-eager", ""),
    "trustRemoteCode": (True, "--trust-remote-code", ""),
    "enablePrefixCaching": (False, "--no-enable-prefix-caching", ""),
    "disableHybridKVCacheManager": (True, "--disable-hybrid-kv-cache-manager", ""),
    "disableLogStats": (True, "--disable-log-stats", ""),
    "languageModelOnly": (True, "--language-model-only", ""),
    "cudagraphCaptureSizes": ([1, 2, 4], "--cudagraph-capture-sizes 1 2 4", ""),
    "maxCudagraphCaptureSize": (64, "--max-cudagraph-capture-size 64", ""),
    "speculativeConfig": ({"method": "ngram"}, '--speculative-config {"method":"ngram"}', ""),
    "compilationConfig": ('{"level": 3}', '--compilation-config {"level":3}', ""),
    "limitMmPerPrompt": ({"image": 2}, '--limit-mm-per-prompt {"image":2}', ""),
    "mmProcessorKwargs": ({"num_crops": 4}, '--mm-processor-kwargs {"num_crops":4}', ""),
    "hfOverrides": ({"rope_theta": 1}, '--hf-overrides {"rope_theta":1}', ""),
    "enableAiter": (True, "", "VLLM_ROCM_USE_AITER=true"),
    "disabledKernels": ("MacheteLinearKernel", "", "VLLM_DISABLED_KERNELS=MacheteLinearKernel"),
    "pytorchCudaAllocConf": (
        "expandable_segments:True",
        "",
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    ),
}
KEYS: dict[str, dict[str, Becomes]] = {
    "llamacpp": {
        **_DOWNLOADS,
        **_EXTRA,
        "contextSize": (8192, "--ctx-size 8192", ""),
        "batchSize": (1024, "--batch-size 1024", ""),
        "ubatchSize": (256, "--ubatch-size 256", ""),
        "keepPromptCacheMB": (256, "--slot-save-path /var/cache/flexinfer/prompts", ""),
        "threads": (3, "--threads 3", ""),
        "cacheTypeK": ("q8_0", "--cache-type-k q8_0", ""),
        "cacheTypeV": ("q8_0", "--cache-type-v q8_0", ""),
        "chatTemplate": ("chatml", "--chat-template chatml", ""),
        "jinja": (False, "--no-jinja", ""),
        "embedding": (True, "--embeddings", ""),
        "reasoningFormat": ("none", "--reasoning-format none", ""),
        "reasoningBudget": (-1, "--reasoning-budget -1", ""),
        "device": ("none", "--device none", ""),
        "parallel": (2, "2", ""),
        "nGPULayers": (20, "20", ""),
        "flashAttention": (True, "--flash-attn on", ""),
        "fitOff": (True, "-fit off", ""),
        "metrics": (True, "", ""),
        "ggufFile": ("q4.gguf", "/models/m/q4.gguf", ""),
        "modelFile": ("q4.gguf", "/models/m/q4.gguf", ""),
        "mmproj": ("mm.gguf", "--mmproj /models/m/mm.gguf", ""),
    },
    "vllm": _VLLM,
    "vllm-omni": _VLLM,
    "ollama": {
        "parallel": (2, "", "OLLAMA_NUM_PARALLEL=2"),
        "contextSize": (8192, "", "OLLAMA_CONTEXT_LENGTH=8192"),
        "hipVisibleDevices": ("0", "", ""),
        "rocrVisibleDevices": ("0", "", ""),
    },
    "mlc-llm": {
        **_DOWNLOADS,
        **_EXTRA,
        "mode": ("local", "local", ""),
        "jitPolicy": ("REDO", "", "MLC_JIT_POLICY=REDO"),
        "modelLibPath": ("/models/m/lib.so", "--model-lib /models/m/lib.so", ""),
        "maxNumSequence": (4, "--overrides max_num_sequence=4", ""),
        "maxTotalSeqLength": (8192, "--overrides max_total_seq_length=8192", ""),
        "prefillChunkSize": (2048, "--overrides prefill_chunk_size=2048", ""),
        "contextWindowSize": (4096, "--overrides context_window_size=4096", ""),
        "slidingWindowSize": (1024, "--overrides sliding_window_size=1024", ""),
        "attentionSinkSize": (4, "--overrides attention_sink_size=4", ""),
        "gpuMemoryUtilization": (0.5, "--overrides gpu_memory_utilization=0.5", ""),
    },
    "diffusers": {
        **_DOWNLOADS,
        "numInferenceSteps": (20, "", "DEFAULT_NUM_INFERENCE_STEPS=20"),
        "guidanceScale": (7.5, "", "DEFAULT_GUIDANCE_SCALE=7.5"),
        "scheduler": ("EulerDiscreteScheduler", "", "DEFAULT_SCHEDULER=EulerDiscreteScheduler"),
        "negativePrompt": ("blurred", "", "DEFAULT_NEGATIVE_PROMPT=blurred"),
        "useFp16": (True, "", "USE_FP16=true"),
        "modelFamily": ("sdxl", "", "MODEL_FAMILY=sdxl"),
        "pipelineMode": ("text2img", "", "PIPELINE_MODE=text2img"),
        "quantization": ("nf4", "", "QUANTIZATION=nf4"),
        "computeDtype": ("bfloat16", "", "BNB_COMPUTE_DTYPE=bfloat16"),
        "cpuOffload": (True, "", "USE_CPU_OFFLOAD=true"),
        "skipWarmup": (True, "", "SKIP_WARMUP=true"),
        "warmupResolutions": ("512x512", "", "WARMUP_RESOLUTIONS=512x512"),
    },
    "comfyui": {
        **_DOWNLOADS,
        **_EXTRA,
        "enableCORS": (True, "", ""),
        "modelsPath": ("/m.yaml", "--extra-model-paths-config /m.yaml", ""),
        "outputDirectory": ("/out", "--output-directory /out", ""),
    },
}
"""Backend -> key -> what it becomes. `customNodesPath` of ComfyUI goes into a file: `test_arguments`."""


NEEDED: dict[str, dict[str, Any]] = {
    "keepPromptCacheMB": {"source": "HF://org/m", "config": {"ggufFile": "m.gguf"}},
    "computeDtype": {"config": {"quantization": "nf4"}},
}
"""Key -> what a spec must have for it to be accepted."""


def a_spec(name: str, **changes: Any) -> ModelSpec:
    """Return a spec of a backend on two GPUs, or on as many as it can use."""
    backend = backends.find(name)
    assert backend is not None
    count = backend.most_devices or 1
    facts: dict[str, Any] = {
        "backend": name,
        "source": f"{'pvc' if 'pvc' in backend.schemes else backend.schemes[0]}://c/m",
        "gpu": Gpu(vendor="nvidia", count=count),
    }
    return ModelSpec(**(facts | changes))


def a_start(spec: ModelSpec, **changes: Any) -> Serving:
    """Return a start of it."""
    facts: dict[str, Any] = {"name": "m", "spec": spec, "path": "/models/m", "vendor": "nvidia"}
    return Serving(**(facts | {"devices": spec.devices} | changes))
