"""The prefetcher's memory: how often a Job could not be created, or was made again, and how far it is. Pure.

It is lost at a restart: the first attempt after it is made at once.
"""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import msgspec

from flexinfer.api.durations import back_off

FIRST_BACK_OFF, LONGEST_BACK_OFF = 15.0, 300.0
"""Seconds before a Job that could not be created is tried again, doubling. An event of its PVC ends the wait."""
FIRST_RETRY, LONGEST_RETRY = 15.0, 900.0
"""Seconds before a Job that failed is deleted and created again, doubling."""
T = TypeVar("T")


class EnsureFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The Job of these inputs could not be created; no digest: its PVC was not known."""

    key: str
    uid: str
    digest: str


class JobRetried(msgspec.Struct, frozen=True, kw_only=True):
    """The Job of these inputs failed and was deleted, to be created again."""

    key: str
    uid: str
    digest: str


class ProgressSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How far the Job of a Model is, as its Pod said; sizes are bytes."""

    key: str
    uid: str
    job: str
    bytes: int
    total_bytes: int
    bytes_per_second: int = 0


class ClaimRefused(msgspec.Struct, frozen=True, kw_only=True):
    """A PVC of a Model gets no volume, for the cause that its provisioner wrote."""

    key: str
    uid: str
    claim_uid: str
    cause: str


Fact: TypeAlias = EnsureFailed | JobRetried | ProgressSeen | ClaimRefused


class Attempts(msgspec.Struct, frozen=True):
    """How often something happened with these inputs, and when last."""

    digest: str = ""
    number: int = 0
    at: float = 0.0

    def one_more(self, digest: str, at: float) -> "Attempts":
        """Return the count with one more; other inputs start a new count."""
        return Attempts(digest, self.number + 1 if self.digest == digest else 1, at)


class Memory(msgspec.Struct, frozen=True):
    """What is remembered, by uid."""

    failed: Mapping[str, Attempts] = {}
    retried: Mapping[str, Attempts] = {}
    progress: Mapping[str, ProgressSeen] = {}
    refused: Mapping[str, ClaimRefused] = {}

    def refusal_of(self, uid: str, claim_uid: str) -> str:
        """Return why a PVC has no volume, as last seen; empty if nothing was said."""
        refusal = self.refused.get(uid)
        return refusal.cause if refusal is not None and refusal.claim_uid == claim_uid else ""

    def progress_of(self, uid: str, job: str) -> ProgressSeen | None:
        """Return how far a Job is, as last seen; None if it never was."""
        progress = self.progress.get(uid)
        return progress if progress is not None and progress.job == job else None

    def ensure_at(self, uid: str, digest: str) -> float:
        """Return when the Job of these inputs may be created: at once unless that failed before."""
        failure = self.failed.get(uid, Attempts())
        if failure.digest != digest or not failure.number:
            return float("-inf")
        return failure.at + back_off(FIRST_BACK_OFF, failure.number - 1, LONGEST_BACK_OFF)

    def retry_seconds(self, uid: str, digest: str) -> float:
        """Return how long a failure of the Job of these inputs stays before it is created again."""
        return back_off(FIRST_RETRY, self.retries(uid, digest).number, LONGEST_RETRY)

    def retries(self, uid: str, digest: str) -> Attempts:
        """Return how often the Job of these inputs was created again after it failed, and when last."""
        attempts = self.retried.get(uid, Attempts())
        return attempts if attempts.digest == digest else Attempts()


def remember(memory: Memory, fact: Fact, at: float) -> Memory:
    """Return the memory with a fact."""
    match fact:
        case EnsureFailed(uid=uid, digest=digest):
            attempts = memory.failed.get(uid, Attempts()).one_more(digest, at)
            return msgspec.structs.replace(memory, failed={**memory.failed, uid: attempts})
        case JobRetried(uid=uid, digest=digest):
            attempts = memory.retried.get(uid, Attempts()).one_more(digest, at)
            retries, progress = {**memory.retried, uid: attempts}, _without(memory.progress, uid)
            return msgspec.structs.replace(memory, retried=retries, progress=progress)
        case ProgressSeen(uid=uid):
            return msgspec.structs.replace(memory, progress={**memory.progress, uid: fact})
        case ClaimRefused(uid=uid):
            return msgspec.structs.replace(memory, refused={**memory.refused, uid: fact})


def forget(memory: Memory, uid: str) -> Memory:
    """Return the memory without a deleted Model."""
    if not any(uid in part for part in (memory.failed, memory.retried, memory.progress, memory.refused)):
        return memory
    return Memory(
        failed=_without(memory.failed, uid),
        retried=_without(memory.retried, uid),
        progress=_without(memory.progress, uid),
        refused=_without(memory.refused, uid),
    )


def _without(entries: Mapping[str, T], uid: str) -> Mapping[str, T]:
    return {key: entry for key, entry in entries.items() if key != uid} if uid in entries else entries
