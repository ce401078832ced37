"""The figures of a model in safetensors: what the headers of its files and its config.json say. Standard library alone.

A file begins with the length of a JSON object of tensors, 8 bytes, and that object: https://huggingface.co/docs/safetensors. The names
in config.json are those of the transformers library. Nothing in either is believed to be of the right type or size.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flexinfer.prefetcher import gguf
from flexinfer.prefetcher.gguf_figures import mib

_LARGEST_HEADER = 100 * 2**20
"""Bytes, as the format itself allows."""
_LARGEST_CONFIG, _MOST_LAYERS = 2**20, 2**12
_LENGTH, _OPENING = 8, b"{"
"""How a file begins: so many bytes with the length of its header, and the header, an object in JSON."""
_F16 = 2
_TEXT = ("text_config", "llm_config", "language_config")
"""Where the config of a multi-modal model keeps that of its language model."""


def figures(files: Sequence[Path], config: Path) -> dict[str, str | int]:
    """Return the figures of a model by their names in the API; `config` need not exist. Raises OSError and ValueError."""
    types: Counter[str] = Counter()
    for file in files:
        types.update(_sizes(file))
    common = types.most_common(1)
    weights: dict[str, str | int] = {
        "format": "safetensors",
        "quantization": common[0][0] if common else "",
        "weightsMB": mib(sum(types.values())),
    }
    return weights | (_Config(_object(config)).figures() if config.is_file() else {})


def fault(file: Path) -> str:
    """Return why a file of that format is none, as `<name> is ...`; empty if its header begins as one does. Raises OSError.

    A page that a hub or a proxy answered with, and that was stored as the weights, is one.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(_LENGTH + len(_OPENING))
    promised_bytes = _LENGTH + int.from_bytes(start[:_LENGTH], "little")
    if start[_LENGTH:] == _OPENING and promised_bytes <= size:
        return ""
    if start[_LENGTH:] == _OPENING and promised_bytes <= _LARGEST_HEADER:
        return f"{file.name} is incomplete: it has {size:,} bytes, and its header alone promises {promised_bytes:,}"
    return f"{file.name} is not a safetensors file: {gguf.beginning(start)}"


def _sizes(file: Path) -> Counter[str]:
    """Return the bytes of the tensors of a file, by type."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LARGEST_HEADER:
            raise ValueError(f"{file.name} claims a header of {length:,} bytes")
        tensors = json.loads(stream.read(length))
    sizes: Counter[str] = Counter()
    for name, tensor in tensors.items():
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            sizes[str(tensor["dtype"])[:16]] += max(0, int(end) - int(start))
    return sizes


def _object(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > _LARGEST_CONFIG:
        return {}
    content = json.loads(path.read_bytes())
    return content if isinstance(content, dict) else {}


class _Config:
    """The hyperparameters of a model; one that is multi-modal has them one level deeper."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        inner = next((config[name] for name in _TEXT if isinstance(config.get(name), dict)), None)
        self._values: Mapping[str, Any] = inner if inner is not None else config
        self._architecture = str(config.get("model_type") or self._values.get("model_type") or "")[:64]
        self.layers = min(self._number("num_hidden_layers", "n_layer"), _MOST_LAYERS)
        self.heads = self._number("num_attention_heads", "n_head")
        self.kv_heads = self._number("num_key_value_heads") or self.heads
        self.embedding = self._number("hidden_size", "n_embd")

    def figures(self) -> dict[str, str | int]:
        """Return its figures."""
        sliding = sum(self._slides(layer) for layer in range(self.layers))
        each = _F16 * self._cached_values()
        compressed = bool(self._number("kv_lora_rank"))
        return {
            "architecture": self._architecture,
            "layers": self.layers,
            "embeddingLength": self.embedding,
            "feedForwardLength": self._feed_forward(),
            "expertsUsed": self._number("num_experts_per_tok", "moe_topk"),
            "heads": self.heads,
            "kvHeads": 1 if compressed else self.kv_heads,
            "keyLength": self._cached_values() if compressed else self._head(),
            "valueLength": 0 if compressed else self._head(),
            "vocabulary": self._number("vocab_size"),
            "contextLength": self._number("max_position_embeddings", "n_positions"),
            "kvBytesPerToken": each * sum(map(self._keeps_all, range(self.layers))),
            "slidingWindow": self._number("sliding_window") if sliding else 0,
            "slidingKvBytesPerToken": each * sliding,
        }

    def _number(self, *names: str) -> int:
        values = (self._values.get(name) for name in names)
        return next((int(v) for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), 0)

    def _head(self) -> int:
        return self._number("head_dim") or (self.embedding // self.heads if self.heads else 0)

    def _cached_values(self) -> int:
        """Return the values that a layer keeps of a token: keys and values, or what both are computed from."""
        if rank := self._number("kv_lora_rank"):
            return rank + self._number("qk_rope_head_dim")
        return 2 * self.kv_heads * self._head()

    def _feed_forward(self) -> int:
        dense, used_experts = (
            self._number("intermediate_size", "n_inner"),
            self._number("num_experts_per_tok", "moe_topk"),
        )
        expert = self._number("moe_intermediate_size") or dense
        return used_experts * expert if used_experts else dense or 4 * self.embedding

    def _kind(self, layer: int) -> str:
        kinds = self._values.get("layer_types")
        return str(kinds[layer]) if isinstance(kinds, list) and layer < len(kinds) else ""

    def _slides(self, layer: int) -> bool:
        if not self._number("sliding_window") or self._values.get("use_sliding_window") is False:
            return False
        kind = self._kind(layer)
        period = self._number("sliding_window_pattern")
        return kind == "sliding_attention" if kind else bool(period) and layer % period < period - 1

    def _keeps_all(self, layer: int) -> bool:
        kind = self._kind(layer)
        return kind in ("full_attention", "attention") if kind else not self._slides(layer)
