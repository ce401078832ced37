"""Files that can run code when they are loaded: pickles, and code itself. By name, as the hub lists them, before a byte is fetched.

Why each is one: https://huggingface.co/docs/hub/security-pickle, https://pytorch.org/docs/stable/generated/torch.load.html,
https://keras.io/guides/serialization_and_saving (Lambda layers). A name is a filter and no proof: what isolates an engine is its Pod.
"""

import re
from collections.abc import Iterable

_PICKLES = (
    ".bin", ".pt", ".pth", ".pkl", ".pickle", ".dill", ".joblib", ".ckpt", ".nemo", ".mar", ".h5", ".hdf5", ".keras",
)  # fmt: skip
_CODE = (
    ".py", ".pyc", ".pyd", ".ipynb", ".so", ".dll", ".dylib", ".sh", ".bat", ".ps1", ".exe", ".jar", ".js", ".wasm", ".llamafile",
)  # fmt: skip
_ARRAYS = re.compile(r"(.*/)?params_shard_\d+\.bin", re.IGNORECASE)
"""The weights of MLC: plain arrays."""
_WEIGHTS = (".safetensors", ".gguf", ".onnx")
_SHOWN, _LONGEST = 5, 80


def is_pickle(path: str) -> bool:
    """Return whether a file may hold weights that run code when they are loaded."""
    return path.lower().endswith(_PICKLES) and not _ARRAYS.fullmatch(path)


def is_unsafe(path: str) -> bool:
    """Return whether a file can run code when it is loaded."""
    return is_pickle(path) or path.lower().endswith(_CODE)


def has_weights(paths: Iterable[str]) -> bool:
    """Return whether there are weights in a safe format."""
    return any(path.lower().endswith(_WEIGHTS) or _ARRAYS.fullmatch(path) for path in paths)


def shown(paths: Iterable[str]) -> str:
    """Return how many files there are and the names of the first, for people; empty if there is none."""
    every = sorted(paths)
    names = ", ".join(path[:_LONGEST] for path in every[:_SHOWN])
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return f"{len(every)} files that can run code ({names}{more})" if every else ""
