"""Claims: a claim and the volume made for it find each other."""

from typing import Any

from localkube.apiserver.resources import Object
from localkube.controllers.persistent_volume_binder import PersistentVolumeController
from tests.unit.localkube.controllers.harness import NAMESPACE, Harness


def a_harness() -> Harness:
    """Return a harness with a claim that waits."""
    harness = Harness(lambda store, _now: PersistentVolumeController(store))
    add_claim(harness)
    return harness


def add_claim(harness: Harness) -> None:
    """Add the claim."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    harness.make("persistentvolumeclaims", {"metadata": {"name": "models"}, "spec": spec})


def add_volume(harness: Harness, uid: str | None = None, **reference: Any) -> None:
    """Add a volume made for that claim."""
    known = harness.get("persistentvolumeclaims", "models")["metadata"]["uid"]
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"},
        "claimRef": {"namespace": NAMESPACE, "name": "models", "uid": uid or known, **reference},
    }
    harness.make("persistentvolumes", {"metadata": {"name": "v"}, "spec": spec})


def phases(harness: Harness) -> tuple[str, str]:
    """Return the phases of claim and volume."""
    claim: Object = harness.get("persistentvolumeclaims", "models")
    return claim.get("status", {}).get("phase", ""), harness.get("persistentvolumes", "v")["status"]["phase"]


def test_a_volume_and_the_claim_that_it_names_are_bound() -> None:
    """The claim says which volume, and how much it really has."""
    harness = a_harness()
    add_volume(harness)
    harness.settle()
    claim = harness.get("persistentvolumeclaims", "models")
    assert phases(harness) == ("Bound", "Bound")
    assert (claim["spec"]["volumeName"], claim["status"]["capacity"]) == ("v", {"storage": "2Gi"})


def test_a_volume_made_for_a_namesake_is_not_taken() -> None:
    """The claim was deleted and created again: what the previous one held is not given to the new one."""
    harness = a_harness()
    add_volume(harness, uid="11111111-0000-4000-8000-000000000000")
    harness.settle()
    assert phases(harness) == ("Pending", "Released")


def test_a_volume_outlives_its_claim_and_says_so() -> None:
    """Until a user deletes it."""
    harness = a_harness()
    add_volume(harness)
    harness.settle()
    harness.delete("persistentvolumeclaims", "models")
    harness.settle()
    assert phases(harness) == ("", "Released")
