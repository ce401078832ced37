"""Remaining: what a namespace that is being deleted says of what still keeps it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from localkube.apiserver.resources import Object

_FINE: Final = (
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
    """How many objects are left, by resource and by finalizer."""

    kinds: Mapping[str, int]
    finalizers: Mapping[str, int]


def status(former: Object, left: Counts, time: str) -> Object:
    """Return the status of a namespace in which something is left, in the words of a real namespace controller."""
    kinds = _listed(left.kinds, "{} has {} resource instances")
    finalizers = _listed(left.finalizers, "{} in {} resource instances")
    told = [
        *((kind, "False", reason, message) for kind, reason, message in _FINE),
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
    known = {one["type"]: one for one in former.get("conditions") or ()}
    return former | {"conditions": [_condition(*one, known.get(one[0]), time) for one in told]}


def _condition(
    kind: str, verdict: str, reason: str, message: str, former: Object | None, time: str
) -> Object:
    since = former["lastTransitionTime"] if former is not None and former["status"] == verdict else time
    return {
        "type": kind,
        "status": verdict,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }


def _listed(counts: Mapping[str, int], form: str) -> str:
    return ", ".join(form.format(name, counts[name]) for name in sorted(counts))
