"""The default StorageClass: what a PVC without a class gets."""

from typing import Any

from localkube.controllers.default_storage_class import DEFAULT, DefaultStorageClassController
from tests.unit.localkube.controllers.harness import Harness


def a_harness() -> Harness:
    """Return a harness with the controller."""
    return Harness(lambda store, _now: DefaultStorageClassController(store))


def add_class(harness: Harness, name: str, default: str = "true") -> None:
    """Add a class."""
    metadata = {"name": name, "annotations": {DEFAULT: default}}
    harness.make("storageclasses", {"metadata": metadata, "provisioner": "x/y"})


def add_claim(harness: Harness, name: str = "cache", **spec: Any) -> None:
    """Add a PVC."""
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}} | spec
    harness.make("persistentvolumeclaims", {"metadata": {"name": name}, "spec": body})


def class_of(harness: Harness, name: str = "cache") -> Any:
    """Return the class of a PVC."""
    return harness.get("persistentvolumeclaims", name)["spec"].get("storageClassName")


def test_a_pvc_without_a_class_gets_the_default_one() -> None:
    """As on a cluster, where it would stay Pending otherwise."""
    harness = a_harness()
    add_class(harness, "other", default="false")
    add_class(harness, "local")
    add_claim(harness)
    harness.settle()
    assert class_of(harness) == "local"


def test_a_pvc_that_waited_gets_the_class_once_there_is_one() -> None:
    """Whichever came first."""
    harness = a_harness()
    add_claim(harness)
    harness.settle()
    assert class_of(harness) is None
    add_class(harness, "local")
    harness.settle()
    assert class_of(harness) == "local"


def test_a_pvc_that_names_a_class_keeps_it() -> None:
    """The empty one is a choice too: no class."""
    harness = a_harness()
    add_class(harness, "local")
    add_claim(harness, "named", storageClassName="fast")
    add_claim(harness, "none", storageClassName="")
    harness.settle()
    assert (class_of(harness, "named"), class_of(harness, "none")) == ("fast", "")
