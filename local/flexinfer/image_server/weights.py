"""The header of a safetensors file: the type of its weights, or why it is none. Needs no torch.

The format: 8 bytes with the length of the header, then that in JSON (https://huggingface.co/docs/safetensors).
"""

import json
from pathlib import Path

_SHOWN = 40


def stored_type(file: Path) -> str:
    """Return the type of the first tensor of a file. Raises ValueError that names the file and how it begins, and OSError."""
    size = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(8)
        header = content.read(min(int.from_bytes(start, "little"), size))
    try:
        tensors = json.loads(header)
        return next((str(one["dtype"]) for name, one in tensors.items() if name != "__metadata__"), "")
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        raise ValueError(
            f"{file} is no safetensors file: its header in JSON is expected after 8 bytes, and its {size:,} bytes {_beginning(start + header)}; "
            "put the complete file in its place"
        ) from None


def _beginning(content: bytes) -> str:
    """Return how a file begins, as text where it is text: a page of a hub or mirror is recognised by that."""
    text = " ".join(content[:_SHOWN].decode("ascii", errors="replace").split())
    if text.isascii() and text.isprintable() and text:
        page = ", a web page" if text.startswith("<") else ""
        return f'begin with "{text}"{page}'
    return f"begin with the bytes {content[:8].hex(' ')}" if content else "are none"
