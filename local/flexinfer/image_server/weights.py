"""The files of a pipeline: the type of its weights, and which file is not what it should be. Needs no torch.

A safetensors file is 8 bytes with the length of its header, then that in JSON, then weights (https://huggingface.co/docs/safetensors).
"""

import json
from pathlib import Path

_SHOWN = 40
_REMEDY = "put the complete file in its place"


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
            f"{file} is no safetensors file: its header in JSON is expected after 8 bytes, and its {size:,} bytes {_beginning(start + header)}; {_REMEDY}"
        ) from None


def not_json(folder: Path) -> str:
    """Return which file of a folder's configuration is no JSON, and how it begins; empty if each is. Raises OSError."""
    for file in sorted(folder.rglob("*.json")):
        content = file.read_bytes()
        try:
            json.loads(content)
        except (ValueError, RecursionError):
            return f"{file} is no JSON: its {len(content):,} bytes {_beginning(content)}; {_REMEDY}"
    return ""


def _beginning(content: bytes) -> str:
    """Return how a file begins, as text where it is text: a page of a hub or mirror is recognised by that."""
    text = " ".join(content[:_SHOWN].decode("ascii", errors="replace").split())
    if text.isascii() and text.isprintable() and text:
        page = ", a web page" if text.startswith("<") else ""
        return f'begin with "{text}"{page}'
    return f"begin with the bytes {content[:8].hex(' ')}" if content else "are none"
