"""Failures: which line of an engine's output says why it failed; the last one often says only that it did. Pure."""

import re
from collections.abc import Sequence


def cause(patterns: Sequence[str], output: str) -> str:
    """Return what the first of these patterns that matches a line has as its group; empty if none does."""
    matches = (re.search(pattern, output, re.MULTILINE) for pattern in patterns)
    return next((match[1].strip() for match in matches if match is not None), "")
