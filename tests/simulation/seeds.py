"""The seeds to play, in chunks for several workers.

FLEXINFER_SEEDS is their number or a range `first-last`.
"""

import os
from collections.abc import Sequence

DEFAULT = 1000
"""What `make test` plays; `make seeds` plays 1,000 to 1,599."""
_CHUNKS = 100


def requested_seeds(setting: str | None = None) -> range:
    """Return the seeds that the setting, by default the environment, requests."""
    text = os.environ.get("FLEXINFER_SEEDS", "") if setting is None else setting
    first, dash, last = text.partition("-")
    if dash:
        return range(int(first), int(last) + 1)
    return range(int(text or DEFAULT))


def chunks(seeds: range) -> Sequence[range]:
    """Return the seeds in chunks of nearly equal size, none of them empty."""
    size = max(1, -(-len(seeds) // _CHUNKS))
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]
