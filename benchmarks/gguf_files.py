"""GGUF files made for a benchmark: several architectures and quantisations, with random weights.

An engine that is only to load them asks for the right names, shapes and metadata; what the weights say does not matter. The format is
that of ggml's docs/gguf.md, the names and shapes of tensors are those of llama.cpp's src/llama-arch.cpp and src/llama-model.cpp.
"""

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

F32, F16, Q4_0, Q8_0, Q4_K, Q6_K = 0, 1, 2, 8, 12, 14
BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210)}
"""Type of a tensor -> (elements of a block, its bytes), as ggml-common.h has them."""
_ALIGNMENT, _NOISE = 32, 2**20
_UINT32, _FLOAT, _STRING, _ARRAY, _INT32, _BOOL = 4, 6, 8, 9, 5, 7
_KINDS: Mapping[type, int] = {bool: _BOOL, str: _STRING, float: _FLOAT, int: _INT32}
_FORMATS = {_BOOL: "?", _FLOAT: "f", _INT32: "i"}
Value = int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]
Tensor = tuple[str, tuple[int, ...], int]
"""Name, shape with the fastest dimension first, and type."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The hyperparameters of a model; `experts` 0: it is not a mixture of experts."""

    name: str
    architecture: str
    layers: int = 8
    embedding: int = 1024
    feed_forward: int = 2816
    heads: int = 16
    kv_heads: int = 4
    head: int = 64
    vocabulary: int = 32000
    context: int = 8192
    weights: int = Q8_0
    tied: bool = False
    experts: int = 0
    experts_used: int = 0
    window: int = 0


def write(path: Path, shape: Shape) -> None:
    """Write a file of that shape."""
    tensors = list(_tensors(shape))
    with path.open("wb") as file:
        file.write(packed(_values(shape), tensors))
        _fill(file.write, sum(_padded(dimensions, kind) for _, dimensions, kind in tensors))


def packed(values: Mapping[str, Value], tensors: Sequence[Tensor]) -> bytes:
    """Return the header of a file with these metadata and tensors."""
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    header += b"".join(_text(key) + _value(value) for key, value in values.items())
    offset = 0
    for name, dimensions, kind in tensors:
        header += _text(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        header += struct.pack("<IQ", kind, offset)
        offset += _padded(dimensions, kind)
    return header + bytes(-len(header) % _ALIGNMENT)


def _fill(emit: Callable[[bytes], object], length: int) -> None:
    noise = os.urandom(_NOISE)
    for _ in range(length // _NOISE):
        emit(noise)
    emit(noise[: length % _NOISE])


def _padded(dimensions: Sequence[int], kind: int) -> int:
    """Return the bytes of a tensor, and of what follows it up to the next one."""
    elements = 1
    for dimension in dimensions:
        elements *= dimension
    block, size = BLOCKS[kind]
    return -(-elements // block * size // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT, value)
    first = value[0]
    kind = next(kind for of, kind in _KINDS.items() if isinstance(first, of))
    head = struct.pack("<IIQ", _ARRAY, kind, len(value))
    if kind == _STRING:
        return head + b"".join(_text(str(one)) for one in value)
    return head + struct.pack(f"<{len(value)}{_FORMATS[kind]}", *value)


def _values(shape: Shape) -> Mapping[str, Value]:
    name = shape.architecture
    values: dict[str, Value] = {
        "general.architecture": name,
        "general.name": shape.name,
        f"{name}.block_count": shape.layers,
        f"{name}.context_length": shape.context,
        f"{name}.embedding_length": shape.embedding,
        f"{name}.feed_forward_length": shape.feed_forward,
        f"{name}.attention.head_count": shape.heads,
        f"{name}.attention.head_count_kv": shape.kv_heads,
        f"{name}.attention.key_length": shape.head,
        f"{name}.attention.value_length": shape.head,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{name}.rope.dimension_count": shape.head,
        f"{name}.rope.freq_base": 10000.0,
        f"{name}.vocab_size": shape.vocabulary,
    }
    if shape.experts:
        values |= {
            f"{name}.expert_count": shape.experts,
            f"{name}.expert_used_count": shape.experts_used,
            f"{name}.expert_feed_forward_length": shape.feed_forward,
        }
    if shape.window:
        values[f"{name}.attention.sliding_window"] = shape.window
    values.update(_vocabulary(shape.vocabulary))
    return values


def _vocabulary(size: int) -> Mapping[str, Value]:
    """Return a vocabulary of SentencePiece: three control tokens, the 256 bytes, and names of numbers."""
    control = ["<unk>", "<s>", "</s>"]
    numbers = [f"t{index}" for index in range(size - 259)]
    tokens = [*control, *(f"<0x{byte:02X}>" for byte in range(256)), *numbers]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * size,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (size - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _tensors(shape: Shape) -> Iterator[Tensor]:
    wide, kind = shape.embedding, shape.weights
    yield "token_embd.weight", (wide, shape.vocabulary), kind
    yield "output_norm.weight", (wide,), F32
    if not shape.tied:
        yield "output.weight", (wide, shape.vocabulary), kind
    for layer in range(shape.layers):
        for name, dimensions, of in (*_attention(shape), *_feed_forward(shape)):
            yield f"blk.{layer}.{name}", dimensions, of


def _attention(shape: Shape) -> Iterator[Tensor]:
    wide, kind = shape.embedding, shape.weights
    query, cached = shape.heads * shape.head, shape.kv_heads * shape.head
    yield "attn_norm.weight", (wide,), F32
    if shape.architecture == "phi3":
        yield "attn_qkv.weight", (wide, query + 2 * cached), kind
    else:
        yield "attn_q.weight", (wide, query), kind
        yield "attn_k.weight", (wide, cached), kind
        yield "attn_v.weight", (wide, cached), kind
    yield "attn_output.weight", (query, wide), kind
    if shape.architecture == "qwen2":
        yield "attn_q.bias", (query,), F32
        yield "attn_k.bias", (cached,), F32
        yield "attn_v.bias", (cached,), F32
    if shape.architecture in ("qwen3", "qwen3moe", "gemma3"):
        yield "attn_q_norm.weight", (shape.head,), F32
        yield "attn_k_norm.weight", (shape.head,), F32
    if shape.architecture in ("gemma2", "gemma3"):
        yield "post_attention_norm.weight", (wide,), F32


def _feed_forward(shape: Shape) -> Iterator[Tensor]:
    wide, middle, kind = shape.embedding, shape.feed_forward, shape.weights
    yield "ffn_norm.weight", (wide,), F32
    if shape.experts:
        yield "ffn_gate_inp.weight", (wide, shape.experts), F32
        yield "ffn_gate_exps.weight", (wide, middle, shape.experts), kind
        yield "ffn_up_exps.weight", (wide, middle, shape.experts), kind
        yield "ffn_down_exps.weight", (middle, wide, shape.experts), kind
        return
    if shape.architecture == "phi3":
        yield "ffn_up.weight", (wide, 2 * middle), kind
    else:
        yield "ffn_gate.weight", (wide, middle), kind
        yield "ffn_up.weight", (wide, middle), kind
    yield "ffn_down.weight", (middle, wide), kind
    if shape.architecture in ("gemma2", "gemma3"):
        yield "post_ffw_norm.weight", (wide,), F32
