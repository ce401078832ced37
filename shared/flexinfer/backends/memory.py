"""The memory that an engine needs of its GPUs, estimated from the headers of the weights and from the spec. Pure.

It is the sum of weights, KV cache, the buffer that one step computes in, and what the engine and its driver take beside those. How an
engine uses memory is in its own file (`Demand`); the benchmark `benchmarks.estimate` holds the sum against what llama.cpp allocates.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.api.numbers import bounded

_MIB = 2**20
_KV_CELLS = 256
"""llama.cpp's KV cache has a multiple of so many cells."""
_GATED, _RESIDUAL = 3, 5
"""Vectors that a step holds of each token at once: of the feed-forward network (gate, up and their product), and of the embedding."""
CUDA_CONTEXT_MB = 457
"""What CUDA and ROCm take of each GPU for a process that uses it: ollama's discover/gpu.go (`cudaMinimumMemory`, `rocmMinimumMemory`)."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine uses memory; tokens are those of all requests together.

    `context` tokens have room in the KV cache, `sequences` requests share it, `batch` tokens are computed at once, of which the last of
    each request gives an output. `key_share` and `value_share` are what a cached value takes, as a part of 16 bits.
    """

    context: int = 0
    sequences: int = 1
    batch: int = 0
    key_share: float = 1.0
    value_share: float = 1.0
    activation_bytes: int = 4
    mask_bytes: int = 2
    """Of the attention mask, for each token that is computed and each one in the cache."""
    layers_on_gpu: float = 1.0
    """The part of the layers that is on the GPUs; their weights and caches are."""
    looks_up_on_cpu: bool = False
    """Whether the table of input embeddings stays in the node's memory."""
    weights_factor: float = 1.0
    """What becomes of the weights' size when they are loaded: less than 1 if they are quantised then."""
    overhead_mb: int = CUDA_CONTEXT_MB
    """Beside all that, on each GPU."""


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of an engine on all its GPUs together, in MiB."""

    weights_mb: float = 0
    kv_mb: float = 0
    compute_mb: float = 0
    overhead_mb: float = 0

    @property
    def total_mb(self) -> int:
        """The sum, rounded up."""
        exact = self.weights_mb + self.kv_mb + self.compute_mb + self.overhead_mb
        return bounded(max(0, math.ceil(exact)))


DemandOf: TypeAlias = Callable[[ModelSpec, Headers], Demand | None]
"""Returns how an engine uses memory for a spec and the headers of its weights; None: the spec leaves open what decides it."""


def estimate(headers: Headers, demand: Demand, devices: int = 1) -> Footprint:
    """Return what an engine needs on its GPUs; each of several has a buffer and an overhead of its own."""
    on_gpu = min(1.0, max(0.0, demand.layers_on_gpu))
    weights = headers.weights_mb - (headers.input_mb if demand.looks_up_on_cpu else 0)
    return Footprint(
        weights_mb=max(0, weights) * demand.weights_factor * on_gpu,
        kv_mb=_kv_bytes(headers, demand) * on_gpu / _MIB,
        compute_mb=_compute_bytes(headers, demand) / _MIB * devices,
        overhead_mb=float(demand.overhead_mb * devices),
    )


def _cells(tokens: int) -> int:
    return max(0, -(-tokens // _KV_CELLS) * _KV_CELLS)


def _window_cells(headers: Headers, demand: Demand) -> int:
    """Return the cells of a layer with a sliding window: the window of each request, and what is computed at once."""
    window = headers.sliding_window * demand.sequences + demand.batch
    return min(_cells(demand.context), _cells(window)) if headers.sliding_window else 0


def _kv_bytes(headers: Headers, demand: Demand) -> float:
    values = max(1, headers.key_length + headers.value_length)
    share = (
        headers.key_length * demand.key_share + headers.value_length * demand.value_share
    ) / values or demand.key_share
    full = headers.kv_bytes_per_token * _cells(demand.context)
    sliding = headers.sliding_kv_bytes_per_token * _window_cells(headers, demand)
    return share * (full + sliding)


def _compute_bytes(headers: Headers, demand: Demand) -> float:
    """Return the size of the buffer that a step computes in: masks, then the largest of its stages."""
    cells = _cells(demand.context) if headers.kv_bytes_per_token else 0
    masks = demand.mask_bytes * (cells + _window_cells(headers, demand))
    stages = max(_feed_forward(headers), _attention(headers))
    outputs = demand.activation_bytes * headers.vocabulary * demand.sequences
    return max(demand.batch * (masks + demand.activation_bytes * stages), outputs)


def _feed_forward(headers: Headers) -> int:
    """Return the values of a token in the feed-forward network; what experts return needs room where gate and up do not leave enough."""
    middle, wide = headers.feed_forward_length, headers.embedding_length
    experts = headers.experts_used * wide
    return _GATED * middle + _RESIDUAL * wide + (experts if experts > 2 * middle else 0)


def _attention(headers: Headers) -> int:
    """Return the values of a token while attention is computed: query, key, value, and what they become with their position."""
    query = headers.heads * headers.key_length
    key_values = headers.kv_heads * (2 * headers.key_length + headers.value_length)
    return query + max(query, key_values) + _RESIDUAL * headers.embedding_length
