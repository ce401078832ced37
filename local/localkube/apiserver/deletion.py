"""Deletion of one object: preconditions, finalizers, grace period and propagation policy, as pure functions.

Like rest.BeforeDelete and registry/generic/registry/store.go. Dependents are not deleted here: the garbage
collector does it, and reads the finalizers that are set here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from localkube.apiserver.errors import conflict
from localkube.apiserver.object_metadata import rfc3339, with_finalizers
from localkube.apiserver.requests import DeleteOptions
from localkube.apiserver.resource_strategy import Strategy, strategy
from localkube.apiserver.resources import Object, Resource

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_FINISHED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class DeletionResult:
    """The next state of an object under deletion, and whether it is removed immediately."""

    obj: Object
    immediate: bool


def before_delete(res: Resource, live: Object, options: DeleteOptions, now: datetime) -> DeletionResult:
    """Return the effect of a DELETE on an object; an unchanged object is returned as it is.

    Raises ApiError 409 if a precondition does not hold, 403 if the object may not be deleted.
    """
    _check_preconditions(res, live, options)
    rules = strategy(res)
    rules.check_delete(live)
    grace = _grace_period(rules, live, options)
    meta = live["metadata"]
    deleting = "deletionTimestamp" in meta
    if deleting and rules.graceful and meta.get("deletionGracePeriodSeconds") is not None:
        if options.grace_seconds is None or grace >= meta["deletionGracePeriodSeconds"]:
            immediate = not meta["deletionGracePeriodSeconds"] and not meta.get("finalizers")
            return DeletionResult(live, immediate=immediate)
        return _graceful(_with_shorter_grace_period(live, grace), grace)
    obj = live if deleting and not options.propagation else _with_finalizers(rules, live, options)
    if (rules.graceful and grace > 0) or obj["metadata"].get("finalizers") or _has_spec_finalizers(obj):
        return _graceful(_with_deletion_timestamp(obj, now, grace), grace)
    return DeletionResult(obj, immediate=True)


def _check_preconditions(res: Resource, live: Object, options: DeleteOptions) -> None:
    meta = live["metadata"]
    if options.uid and options.uid != meta["uid"]:
        raise conflict(
            res,
            meta["name"],
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta['uid']}). "
            "The object might have been deleted and then recreated",
        )
    if options.resource_version and options.resource_version != meta["resourceVersion"]:
        raise conflict(
            res,
            meta["name"],
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion "
            f"in record ({meta['resourceVersion']}). The object might have been modified",
        )


def _grace_period(rules: Strategy, live: Object, options: DeleteOptions) -> int:
    """Return the grace period in seconds: 0 unless a kubelet has to stop the Pod first."""
    spec = live.get("spec") or {}
    phase = (live.get("status") or {}).get("phase")
    if not rules.graceful or not spec.get("nodeName") or phase in _FINISHED:
        return 0
    seconds = options.grace_seconds
    if seconds is None:
        seconds = spec.get("terminationGracePeriodSeconds", 30)
    return int(seconds) if seconds >= 0 else 1


def _with_finalizers(rules: Strategy, live: Object, options: DeleteOptions) -> Object:
    """Set the finalizers that say how dependents are treated, and what is deleted before the object itself."""
    before = live["metadata"].get("finalizers") or []
    if rules.deletion_finalizer and "deletionTimestamp" not in live["metadata"]:
        before = [*(each for each in before if each != rules.deletion_finalizer), rules.deletion_finalizer]
        live = with_finalizers(live, before)
    if options.propagation is None and (ORPHAN in before or FOREGROUND in before):
        return live
    policy = options.propagation or rules.propagation
    finalizer = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(policy)
    after = [each for each in before if each not in (ORPHAN, FOREGROUND)]
    if finalizer:
        after.append(finalizer)
    return live if after == before else with_finalizers(live, after)


def _has_spec_finalizers(obj: Object) -> bool:
    """Return whether the content of a namespace still has to be deleted."""
    return obj.get("kind") == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))


def _with_deletion_timestamp(obj: Object, now: datetime, grace: int) -> Object:
    meta = obj["metadata"]
    if "deletionTimestamp" in meta:
        return obj
    new_meta = {
        **meta,
        "deletionTimestamp": rfc3339(now + timedelta(seconds=grace)),
        "deletionGracePeriodSeconds": grace,
    }
    if obj.get("kind") == "Namespace":
        del new_meta["deletionGracePeriodSeconds"]
        return {**obj, "metadata": new_meta, "status": {**(obj.get("status") or {}), "phase": "Terminating"}}
    if meta.get("generation"):
        new_meta["generation"] = meta["generation"] + 1
    return {**obj, "metadata": new_meta}


def _with_shorter_grace_period(obj: Object, grace: int) -> Object:
    meta = obj["metadata"]
    deadline = datetime.strptime(meta["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    earlier = deadline - timedelta(seconds=meta["deletionGracePeriodSeconds"] - grace)
    new_meta = {**meta, "deletionTimestamp": rfc3339(earlier), "deletionGracePeriodSeconds": grace}
    return {**obj, "metadata": new_meta}


def _graceful(obj: Object, grace: int) -> DeletionResult:
    has_finalizers = bool(obj["metadata"].get("finalizers")) or _has_spec_finalizers(obj)
    return DeletionResult(obj, immediate=grace == 0 and not has_finalizers)


def should_delete_during_update(new: Object, live: Object) -> bool:
    """Return whether a write removes the last finalizer of an object under deletion; it is then removed."""
    meta = live["metadata"]
    if "deletionTimestamp" not in meta or meta.get("deletionGracePeriodSeconds"):
        return False
    had_finalizers = bool(meta.get("finalizers")) or _has_spec_finalizers(live)
    return had_finalizers and not new["metadata"].get("finalizers") and not _has_spec_finalizers(new)
