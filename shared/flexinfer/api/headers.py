"""Headers: the figures that the headers of a Model's weights hold, as the prefetcher keeps them in `status.cache.headers`. Pure.

What an engine needs of a GPU follows from them and from the spec: `backends.memory.estimate`.
"""

import msgspec

from flexinfer.api.base import Resource


class Headers(Resource, frozen=True, kw_only=True):
    """Figures of weights; what a file does not say is 0 or empty. MB are MiB, lengths are numbers of elements or tokens.

    The KV cache is given in bytes of 16 bits a value: an engine that quantises it needs less.
    """

    format: str = ""
    """`gguf` or `safetensors`."""
    architecture: str = ""
    quantization: str = ""
    """The type that most of the weights have, such as Q4_K or BF16."""
    weights_mb: int = msgspec.field(name="weightsMB", default=0)
    input_mb: int = msgspec.field(name="inputMB", default=0)
    """The part of the weights that only looks tokens up, which llama.cpp leaves in the memory of the node."""
    layers: int = 0
    embedding_length: int = 0
    feed_forward_length: int = 0
    """Of one token: in a mixture of experts, of those that it uses together."""
    experts_used: int = 0
    """Experts that a token uses together; 0: the model is not a mixture of experts."""
    heads: int = 0
    kv_heads: int = 0
    key_length: int = 0
    value_length: int = 0
    vocabulary: int = 0
    context_length: int = 0
    """The context that the model was trained for."""
    kv_bytes_per_token: int = 0
    """Of all layers that keep every token."""
    sliding_window: int = 0
    sliding_kv_bytes_per_token: int = 0
    """Of all layers that keep only the tokens of a sliding window."""
