"""GGUF files as small as they can be, and with headers that say what a test wants."""

import struct

HEADER = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)


def a_gguf(*, elements: int = 64, data: int | None = None, kind: int = 0, text: str = "llama") -> bytes:
    """Return a file with one tensor of F32 elements; `data` are the bytes that follow its header."""
    key, name = b"general.architecture", b"token_embd.weight"
    values = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text.encode()
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, elements, kind, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + values + tensor
    padding = bytes(-len(header) % 32)
    return header + padding + bytes(4 * elements if data is None else data)
