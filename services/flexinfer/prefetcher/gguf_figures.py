"""The figures of a GGUF model: what `status.cache.headers` keeps of the headers of its files. Standard library alone, as in `gguf`.

Names of values are those of ggml's docs/gguf.md; which layers have a sliding window where a file does not say, and what a compressed
cache holds, is as in llama.cpp's src/models and src/llama-kv-cache.cpp.
"""

from collections import Counter
from collections.abc import Sequence

from flexinfer.prefetcher.gguf import TYPES, Header, Tensor, Value

PROJECTOR = "clip"
"""The architecture of a multi-modal projector."""
_PERIODS = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "cohere2": 4,
    "exaone4": 4,
    "olmo2": 4,
    "llama4": 4,
}
"""Architecture -> every how many layers one keeps all tokens, where the file does not say."""
_F16 = 2
_INPUT, _OUTPUT = "token_embd.weight", "output.weight"


def figures(headers: Sequence[Header]) -> dict[str, str | int]:
    """Return the figures of a model and its projector, by their names in the API; empty if none of the files is a model."""
    model = next((h for h in headers if (_text(h, "general.architecture") or PROJECTOR) != PROJECTOR), None)
    if model is None:
        return {}
    tensors = [tensor for header in headers for tensor in header.tensors]
    return _weights(tensors) | _Shape(model).figures()


def _weights(tensors: Sequence[Tensor]) -> dict[str, str | int]:
    sizes = {tensor.name: tensor.size for tensor in tensors}
    by_type: Counter[int] = Counter()
    for tensor in tensors:
        by_type[tensor.kind] += tensor.size
    common = by_type.most_common(1)
    return {
        "format": "gguf",
        "quantization": TYPES.get(common[0][0], "") if common else "",
        "weightsMB": mib(sum(tensor.size for tensor in tensors)),
        # without an output of its own a model uses the table twice, and llama.cpp has a second copy on the device
        "inputMB": sizes.get(_INPUT, 0) // 2**20 if _OUTPUT in sizes else 0,
    }


class _Shape:
    """The hyperparameters of a model."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self.architecture = _text(header, "general.architecture")
        self.layers = self._number("block_count")
        self.heads = self._each("attention.head_count")
        self.kv_heads = self._each("attention.head_count_kv", self.heads)

    def figures(self) -> dict[str, str | int]:
        """Return its figures."""
        keeps_all, slides = self._cached(sliding=False), self._cached(sliding=True)
        tokens = self._header.lengths.get("tokenizer.ggml.tokens", 0)
        return {
            "architecture": self.architecture,
            "layers": self.layers,
            "embeddingLength": self._number("embedding_length"),
            "feedForwardLength": self._feed_forward(),
            "expertsUsed": self._number("expert_used_count"),
            "heads": max(self.heads, default=0),
            "kvHeads": max(self.kv_heads, default=0),
            "keyLength": self._key_length(),
            "valueLength": self._value_length(),
            "vocabulary": self._number("vocab_size") or tokens,
            "contextLength": self._number("context_length"),
            "kvBytesPerToken": keeps_all,
            "slidingWindow": self._number("attention.sliding_window") if slides else 0,
            "slidingKvBytesPerToken": slides,
        }

    def _value(self, name: str) -> Value | None:
        return self._header.values.get(f"{self.architecture}.{name}")

    def _number(self, name: str) -> int:
        value = self._value(name)
        if isinstance(value, list):
            return int(max(value, default=0))
        return int(value) if isinstance(value, int | float) else 0

    def _each(self, name: str, default: Sequence[int] = ()) -> Sequence[int]:
        """Return a value of each layer: a file has one for all, or a list."""
        value = self._value(name)
        if isinstance(value, list):
            return [int(one) for one in value][: self.layers]
        number = int(value) if isinstance(value, int | float) else None
        return [number] * min(self.layers, 2**12) if number is not None else default

    def _key_length(self) -> int:
        heads = max(self.heads, default=0)
        return self._number("attention.key_length") or (
            self._number("embedding_length") // heads if heads else 0
        )

    def _value_length(self) -> int:
        if self._value("attention.key_length_mla") is not None:
            return 0  # a compressed cache keeps keys alone, and values are computed from them
        return self._number("attention.value_length") or self._key_length()

    def _feed_forward(self) -> int:
        dense, used_experts = self._number("feed_forward_length"), self._number("expert_used_count")
        expert = self._number("expert_feed_forward_length") or dense
        return used_experts * expert if used_experts else dense

    def _cached(self, *, sliding: bool) -> int:
        """Return the bytes that a token takes in the KV caches of all layers of a kind."""
        elements = self._key_length() + self._value_length()
        heads = sum(heads for layer, heads in enumerate(self.kv_heads) if self._slides(layer) == sliding)
        interval = 1 if sliding else max(1, self._number("full_attention_interval"))
        return _F16 * elements * heads // interval

    def _slides(self, layer: int) -> bool:
        if not self._number("attention.sliding_window"):
            return False
        pattern = self._value("attention.sliding_window_pattern")
        if isinstance(pattern, list) and pattern:
            return bool(pattern[layer % len(pattern)])
        period = int(pattern) if isinstance(pattern, int) else _PERIODS.get(self.architecture, 1)
        return period == 0 or layer % period < period - 1


def _text(header: Header, name: str) -> str:
    value = header.values.get(name, "")
    return value if isinstance(value, str) else ""


def mib(size: int) -> int:
    """Return a number of bytes in MiB, rounded up."""
    return -(-size // 2**20)
