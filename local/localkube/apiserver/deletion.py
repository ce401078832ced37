"""What a deletion does to an object: a pure decision on preconditions, finalizers, grace and propagation.

Removing dependents is left to the garbage controller, which reads the finalizers that are set here.
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
class Verdict:
    """What becomes of the object: its next state, and whether it goes at once."""

    obj: Object
    gone: bool


def decide(res: Resource, live: Object, options: DeleteOptions, now: datetime) -> Verdict:
    """Return what becomes of an object; ApiError 409 when a precondition does not hold."""
    _check(res, live, options)
    rules = strategy(res)
    rules.check_delete(live)
    grace = _grace(rules, live, options)
    meta = live["metadata"]
    deleting = "deletionTimestamp" in meta
    if deleting and rules.graceful and meta.get("deletionGracePeriodSeconds") is not None:
        if options.grace_seconds is None or grace >= meta["deletionGracePeriodSeconds"]:
            return Verdict(live, gone=not meta["deletionGracePeriodSeconds"] and not meta.get("finalizers"))
        return _marked(_shortened(live, grace), grace)
    obj = live if deleting and not options.propagation else _with_finalizers(rules, live, options)
    if (rules.graceful and grace > 0) or obj["metadata"].get("finalizers") or _held(obj):
        return _marked(_begun(obj, now, grace), grace)
    return Verdict(obj, gone=True)


def _check(res: Resource, live: Object, options: DeleteOptions) -> None:
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


def _grace(rules: Strategy, live: Object, options: DeleteOptions) -> int:
    """Return how many seconds the object has left: none, unless a node has to stop something first."""
    spec = live.get("spec") or {}
    phase = (live.get("status") or {}).get("phase")
    if not rules.graceful or not spec.get("nodeName") or phase in _FINISHED:
        return 0
    asked = options.grace_seconds
    if asked is None:
        asked = spec.get("terminationGracePeriodSeconds", 30)
    return int(asked) if asked >= 0 else 1


def _with_finalizers(rules: Strategy, live: Object, options: DeleteOptions) -> Object:
    """Put on, and take off, the finalizers that tell the garbage controller how to treat dependents."""
    before = live["metadata"].get("finalizers") or []
    if options.propagation is None and (ORPHAN in before or FOREGROUND in before):
        return live
    chosen = options.propagation or rules.propagation
    wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(chosen)
    after = [each for each in before if each not in (ORPHAN, FOREGROUND)]
    if wanted:
        after.append(wanted)
    return live if after == before else with_finalizers(live, after)


def _held(obj: Object) -> bool:
    """Say whether a namespace still has to be emptied."""
    return obj.get("kind") == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))


def _begun(obj: Object, now: datetime, grace: int) -> Object:
    meta = obj["metadata"]
    if "deletionTimestamp" in meta:
        return obj
    marked = {
        **meta,
        "deletionTimestamp": rfc3339(now + timedelta(seconds=grace)),
        "deletionGracePeriodSeconds": grace,
    }
    if obj.get("kind") == "Namespace":
        del marked["deletionGracePeriodSeconds"]
        return {**obj, "metadata": marked, "status": {**(obj.get("status") or {}), "phase": "Terminating"}}
    if meta.get("generation"):
        marked["generation"] = meta["generation"] + 1
    return {**obj, "metadata": marked}


def _shortened(obj: Object, grace: int) -> Object:
    meta = obj["metadata"]
    deadline = datetime.strptime(meta["deletionTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    sooner = deadline - timedelta(seconds=meta["deletionGracePeriodSeconds"] - grace)
    changed = {**meta, "deletionTimestamp": rfc3339(sooner), "deletionGracePeriodSeconds": grace}
    return {**obj, "metadata": changed}


def _marked(obj: Object, grace: int) -> Verdict:
    return Verdict(obj, gone=grace == 0 and not obj["metadata"].get("finalizers") and not _held(obj))


def ended(new: Object, live: Object) -> bool:
    """Say whether a write takes the last thing away that kept an object which is being deleted."""
    meta = live["metadata"]
    if "deletionTimestamp" not in meta or meta.get("deletionGracePeriodSeconds"):
        return False
    was_kept = bool(meta.get("finalizers")) or _held(live)
    return was_kept and not new["metadata"].get("finalizers") and not _held(new)
