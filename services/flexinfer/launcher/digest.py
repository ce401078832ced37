"""Digests of what is rendered, by which it is compared without the defaults of the API server. Pure."""

import hashlib
import json


def digest(content: object) -> str:
    """Return 16 digits that are equal for equal JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
