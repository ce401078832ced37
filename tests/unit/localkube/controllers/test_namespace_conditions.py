"""A namespace that is going: what it says of what still keeps it."""

from localkube.apiserver.resources import Object
from localkube.controllers.namespace_conditions import Counts, status

EARLIER, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"


def condition(told: Object, kind: str) -> Object:
    """Return one condition."""
    found: Object = next(one for one in told["conditions"] if one["type"] == kind)
    return found


def test_it_counts_what_is_left_by_kind() -> None:
    """In the order of names, as a real namespace controller does."""
    told = status({"phase": "Terminating"}, Counts({"pods.": 2, "models.ai.flexinfer": 1}, {}), NOW)
    assert told["phase"] == "Terminating"
    assert condition(told, "NamespaceContentRemaining") == {
        "type": "NamespaceContentRemaining",
        "status": "True",
        "lastTransitionTime": NOW,
        "reason": "SomeResourcesRemain",
        "message": "Some resources are remaining: models.ai.flexinfer has 1 resource instances, pods. has 2 resource instances",
    }
    assert condition(told, "NamespaceDeletionContentFailure")["status"] == "False"


def test_it_names_the_finalizers_that_hold_them() -> None:
    """Or says that none does."""
    held = status({}, Counts({"pods.": 1}, {"flexinfer.ai/running": 1}), NOW)
    told = condition(held, "NamespaceFinalizersRemaining")
    assert (told["status"], told["reason"]) == ("True", "SomeFinalizersRemain")
    assert told["message"].endswith("remaining: flexinfer.ai/running in 1 resource instances")
    free = condition(status({}, Counts({"pods.": 1}, {}), NOW), "NamespaceFinalizersRemaining")
    assert (free["status"], free["reason"]) == ("False", "ContentHasNoFinalizers")


def test_a_verdict_that_stands_keeps_its_time() -> None:
    """And one that changes has a new one."""
    first = status({}, Counts({"pods.": 1}, {"a/b": 1}), EARLIER)
    second = status(first, Counts({"pods.": 1}, {}), NOW)
    assert condition(second, "NamespaceContentRemaining")["lastTransitionTime"] == EARLIER
    assert condition(second, "NamespaceFinalizersRemaining")["lastTransitionTime"] == NOW
