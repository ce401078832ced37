"""What a reader has of the state stream, in the form that a watermark is compared with."""

import hashlib

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import events, subjects

_MODULUS = 1 << 64


class StateDigest:
    """What a watermark is compared with: per kind, the count of subjects and the sum of their digests."""

    def __init__(self) -> None:
        self._digests: dict[str, int] = {}
        self.counts = dict.fromkeys(STATE_KINDS, 0)
        self.sums = dict.fromkeys(STATE_KINDS, 0)

    def take(self, subject: str, sequence: int, *, deletion: bool) -> None:
        """Note the last message of a subject."""
        kind = subjects.kind_of(subject)
        previous = self._digests.pop(subject, None)
        if previous is not None:
            self._add(kind, -1, -previous)
        if not deletion:
            value = self._digests[subject] = digest(subject, sequence)
            self._add(kind, 1, value)

    def _add(self, kind: str, count: int, value: int) -> None:
        self.counts[kind] += count
        self.sums[kind] = (self.sums[kind] + value) % _MODULUS

    def matches(self, watermark: events.Watermark) -> bool:
        """Return whether everything that the watcher had published by then was read."""
        return watermark.counts == self.counts and watermark.sums == self.sums


def digest(subject: str, sequence: int) -> int:
    """Return the 64-bit hash of one message of the state stream; a watermark holds their sums modulo 2^64."""
    hash_bytes = hashlib.blake2b(f"{subject}@{sequence}".encode(), digest_size=8).digest()
    return int.from_bytes(hash_bytes, "big")
