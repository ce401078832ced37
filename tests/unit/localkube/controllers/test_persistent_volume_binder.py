"""Claims: a claim and the volume made for it find each other."""

from typing import Any

from localkube.apiserver.resources import Object
from localkube.controllers.persistent_volume_binder import PersistentVolumeController
from tests.unit.localkube.controllers.ground import NAMESPACE, Ground


def a_ground() -> Ground:
    """Return a ground with a claim that waits."""
    ground = Ground(lambda store, _now: PersistentVolumeController(store))
    add_claim(ground)
    return ground


def add_claim(ground: Ground) -> None:
    """Add the claim."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    ground.make("persistentvolumeclaims", {"metadata": {"name": "models"}, "spec": spec})


def add_volume(ground: Ground, uid: str | None = None, **reference: Any) -> None:
    """Add a volume made for that claim."""
    known = ground.get("persistentvolumeclaims", "models")["metadata"]["uid"]
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"},
        "claimRef": {"namespace": NAMESPACE, "name": "models", "uid": uid or known, **reference},
    }
    ground.make("persistentvolumes", {"metadata": {"name": "v"}, "spec": spec})


def phases(ground: Ground) -> tuple[str, str]:
    """Return the phases of claim and volume."""
    claim: Object = ground.get("persistentvolumeclaims", "models")
    return claim.get("status", {}).get("phase", ""), ground.get("persistentvolumes", "v")["status"]["phase"]


def test_a_volume_and_the_claim_that_it_names_are_bound() -> None:
    """The claim says which volume, and how much it really has."""
    ground = a_ground()
    add_volume(ground)
    ground.settle()
    claim = ground.get("persistentvolumeclaims", "models")
    assert phases(ground) == ("Bound", "Bound")
    assert (claim["spec"]["volumeName"], claim["status"]["capacity"]) == ("v", {"storage": "2Gi"})


def test_a_volume_made_for_a_namesake_is_not_taken() -> None:
    """The claim was deleted and made anew: what the former held is not given to the new one."""
    ground = a_ground()
    add_volume(ground, uid="11111111-0000-4000-8000-000000000000")
    ground.settle()
    assert phases(ground) == ("Pending", "Released")


def test_a_volume_outlives_its_claim_and_says_so() -> None:
    """Until somebody takes it away."""
    ground = a_ground()
    add_volume(ground)
    ground.settle()
    ground.delete("persistentvolumeclaims", "models")
    ground.settle()
    assert phases(ground) == ("", "Released")
