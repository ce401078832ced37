"""What is owned goes, stays or is set free with its owner."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localkube.apiserver.resources import Object
from localkube.controllers.garbage_collector import GarbageCollector
from tests.controllers import run_until_quiet
from tests.unit.localkube.apiserver.stage import Stage, a_pod, a_widget, owned_by


@pytest.fixture
def stage() -> Stage:
    """Return a store."""
    return Stage()


def a_map(name: str) -> Object:
    """Return a ConfigMap to be created."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def test_dependents_follow_their_owner(stage: Stage) -> None:
    """In the background, over generations; what has another owner, or none, stays."""
    garbage = GarbageCollector(stage.store)
    owner, other = stage.create("widgets", a_widget("a")), stage.create("widgets", a_widget("b"))
    child = stage.create("configmaps", owned_by(owner, a_map("child")))
    stage.create("pods", owned_by(child, a_pod("grandchild")))
    stage.create("configmaps", owned_by(other, a_map("others")))
    stage.create("configmaps", a_map("free"))
    stage.delete("widgets", "a")
    run_until_quiet([garbage])
    assert (stage.names("configmaps"), stage.names("pods")) == (["free", "others"], [])


def test_an_owner_is_known_by_its_uid(stage: Stage) -> None:
    """A namesake that was made later owns nothing; what names a uid that never was goes too."""
    garbage = GarbageCollector(stage.store)
    owner = stage.create("widgets", a_widget("a"))
    stage.create("configmaps", owned_by(owner, a_map("child")))
    stage.delete("widgets", "a")
    stage.create("widgets", a_widget("a"))
    ghost = {**owner, "metadata": {**owner["metadata"], "uid": "never"}}
    stage.create("configmaps", owned_by(ghost, a_map("stray")))
    run_until_quiet([garbage])
    assert stage.names("configmaps") == []


def test_a_second_owner_keeps_what_the_first_leaves(stage: Stage) -> None:
    """Only the reference to the one that is gone is dropped."""
    garbage = GarbageCollector(stage.store)
    first, second = stage.create("widgets", a_widget("a")), stage.create("widgets", a_widget("b"))
    stage.create("configmaps", owned_by(second, owned_by(first, a_map("child"))))
    stage.delete("widgets", "a")
    run_until_quiet([garbage])
    names = [each["name"] for each in stage.get("configmaps", "child")["metadata"]["ownerReferences"]]
    assert names == ["b"]


def test_orphans_are_set_free(stage: Stage) -> None:
    """The owner goes, its dependents stay without it."""
    garbage = GarbageCollector(stage.store)
    owner = stage.create("widgets", a_widget("a"))
    stage.create("configmaps", owned_by(owner, a_map("child")))
    stage.delete("widgets", "a", propagation="Orphan")
    run_until_quiet([garbage])
    child = stage.get("configmaps", "child")
    assert (stage.names("widgets"), child["metadata"].get("ownerReferences")) == ([], None)


def test_in_the_foreground_the_owner_goes_last(stage: Stage) -> None:
    """It waits for what blocks it, here a Pod that its node has to stop."""
    garbage = GarbageCollector(stage.store)
    events = stage.watch("widgets")
    owner = stage.create("widgets", a_widget("a"))
    stage.create("pods", owned_by(owner, a_pod(nodeName="n1"), blocks=True))
    stage.create("configmaps", owned_by(owner, a_map("child"), blocks=True))
    stage.delete("widgets", "a", propagation="Foreground")
    run_until_quiet([garbage])
    waiting = (stage.names("widgets"), stage.names("pods"), stage.names("configmaps"))
    stage.delete("pods", "p", grace_seconds=0)
    run_until_quiet([garbage])
    assert (waiting, stage.names("widgets")) == ((["a"], ["p"], []), [])
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]


def test_what_does_not_block_goes_after_its_owner(stage: Stage) -> None:
    """In the foreground too, an owner does not wait for dependents that do not ask for it."""
    garbage = GarbageCollector(stage.store)
    owner = stage.create("widgets", a_widget("a"))
    child = owned_by(owner, a_map("child"))
    child["metadata"]["finalizers"] = ["a/b"]
    stage.create("configmaps", child)
    stage.delete("widgets", "a", propagation="Foreground")
    run_until_quiet([garbage])
    assert (stage.names("widgets"), "deletionTimestamp" in stage.get("configmaps", "child")["metadata"]) == (
        [],
        True,
    )


def test_jobs_leave_their_pods_unless_told_otherwise(stage: Stage) -> None:
    """A plain deletion of a Job orphans, as in Kubernetes; kubectl says Background."""
    garbage = GarbageCollector(stage.store)
    template = {"spec": {"containers": [{"name": "a", "image": "i"}], "restartPolicy": "Never"}}
    for name, propagation in (("kept", None), ("gone", "Background")):
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"template": template},
        }
        owner = stage.create("jobs", job)
        stage.create("pods", owned_by(owner, a_pod(name)))
        stage.delete("jobs", name, propagation=propagation)
    run_until_quiet([garbage])
    assert (stage.names("jobs"), stage.names("pods")) == ([], ["kept"])


def test_begins_with_what_is_there(stage: Stage) -> None:
    """A collector that starts late finds what was left behind."""
    owner = stage.create("widgets", a_widget("a"))
    stage.create("configmaps", owned_by(owner, a_map("child")))
    stage.delete("widgets", "a")
    run_until_quiet([GarbageCollector(stage.store)])
    assert stage.names("configmaps") == []


def test_lets_be_what_belongs_to_an_unknown_kind(stage: Stage) -> None:
    """Of a kind that is not offered nothing is known, so nothing is deleted."""
    owner = {"apiVersion": "x.org/v1", "kind": "Unknown", "metadata": {"name": "a", "uid": "u"}}
    stage.create("configmaps", owned_by(owner, a_map("child")))
    run_until_quiet([GarbageCollector(stage.store)])
    assert stage.names("configmaps") == ["child"]


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["own", "free", "Background", "Foreground", "Orphan"]),
        st.integers(0, 5),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=20,
)


def do(stage: Stage, deed: tuple[Any, int, int, bool]) -> None:
    """Make a map, owned or not, or delete one."""
    what, number, owner_number, blocks = deed
    name, owner = f"m{number}", stage.find("configmaps", f"m{owner_number}")
    there = stage.find("configmaps", name)
    if what in ("own", "free"):
        if there is None:
            made = a_map(name)
            stage.create(
                "configmaps", owned_by(owner, made, blocks=blocks) if owner and what == "own" else made
            )
    elif there is not None:
        stage.delete("configmaps", name, propagation=what)


@settings(max_examples=50, deadline=None)
@given(DEEDS, st.booleans())
def test_in_the_end_nothing_is_left_half_done(deeds: Any, eager: bool) -> None:  # noqa: FBT001
    """Whenever it runs: no reference to what is gone, nothing waiting to be deleted."""
    stage = Stage()
    garbage = GarbageCollector(stage.store)
    for deed in deeds:
        do(stage, deed)
        if eager:
            garbage.step()
    run_until_quiet([garbage])
    left = [obj for place, _, obj in stage.store.each() if place == ("", "configmaps")]
    uids = {obj["metadata"]["uid"] for obj in left}
    references = {
        reference["uid"] for obj in left for reference in obj["metadata"].get("ownerReferences", ())
    }
    assert references <= uids
    assert not [obj for obj in left if "deletionTimestamp" in obj["metadata"]]
