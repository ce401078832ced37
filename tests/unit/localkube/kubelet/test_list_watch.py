"""Mirror: what a new list says about what was known before."""

from localkube.kubelet.client import Object
from localkube.kubelet.list_watch import difference


def an_object(uid: str, version: str) -> Object:
    """Return an object."""
    return {"metadata": {"uid": uid, "resourceVersion": version}}


def test_ends_additions_and_changes_are_told_and_the_unchanged_is_not() -> None:
    """However long nothing listened."""
    known = {uid: an_object(uid, "1") for uid in ("gone", "same", "changed")}
    listed = [an_object("same", "1"), an_object("changed", "2"), an_object("new", "3")]
    told = [(kind, found["metadata"]["uid"]) for kind, found in difference(known, listed)]
    assert told == [("DELETED", "gone"), ("MODIFIED", "changed"), ("ADDED", "new")]
    assert sorted(known) == ["changed", "new", "same"]
