"""Conditions of a terminating namespace: what remains in it, in the words of the namespace controller. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from localkube.apiserver.resources import Object

_SUCCEEDED: Final = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many objects remain, by resource and by finalizer."""

    kinds: Mapping[str, int]
    finalizers: Mapping[str, int]


def status(previous: Object, remaining: Counts, time: str) -> Object:
    """Return the status of a terminating namespace in which objects remain; `time` is now."""
    kinds = _listed(remaining.kinds, "{} has {} resource instances")
    finalizers = _listed(remaining.finalizers, "{} in {} resource instances")
    conditions = [
        *((kind, "False", reason, message) for kind, reason, message in _SUCCEEDED),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            f"Some resources are remaining: {kinds}",
        ),
        (
            "NamespaceFinalizersRemaining",
            "True" if finalizers else "False",
            "SomeFinalizersRemain" if finalizers else "ContentHasNoFinalizers",
            f"Some content in the namespace has finalizers remaining: {finalizers}"
            if finalizers
            else "All content-preserving finalizers finished",
        ),
    ]
    current = {one["type"]: one for one in previous.get("conditions") or ()}
    return previous | {"conditions": [_condition(*one, current.get(one[0]), time) for one in conditions]}


def _condition(
    kind: str, value: str, reason: str, message: str, previous: Object | None, time: str
) -> Object:
    since = previous["lastTransitionTime"] if previous is not None and previous["status"] == value else time
    return {
        "type": kind,
        "status": value,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }


def _listed(counts: Mapping[str, int], form: str) -> str:
    return ", ".join(form.format(name, counts[name]) for name in sorted(counts))
