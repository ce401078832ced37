"""PVCs and the PersistentVolumes created for them: the controller binds them by claimRef, not by size."""

from typing import Any

import pytest

from tests.apiserver import MERGE, ApiServer, Object
from tests.conformance.objects import CLAIMS, VOLUMES, path
from tests.instance import until


@pytest.fixture
def claim(server: ApiServer, space: str) -> Object:
    """Return a PVC of a class without a provisioner."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": f"no-provisioner-{space}",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec}
    created: Object = server.create(path(CLAIMS, space), body)
    return created


def volume_for(claim: Object, **reference: Any) -> Object:
    """Return a PersistentVolume with a claimRef, as a provisioner creates it."""
    meta = claim["metadata"]
    named = {key: meta[key] for key in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"for-{meta['namespace']}"},
        "spec": {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": claim["spec"]["storageClassName"],
            "hostPath": {"path": "/var/lib/models"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **named, **reference},
        },
    }


def phase(server: ApiServer, where: str) -> str:
    """Return the phase of a PVC or PersistentVolume."""
    return str(server.get(where)["status"].get("phase", ""))


def test_a_pvc_without_a_volume_is_pending(server: ApiServer, claim: Object, space: str) -> None:
    """Its volumeMode defaults to Filesystem."""
    assert (claim["status"]["phase"], claim["spec"]["volumeMode"]) == ("Pending", "Filesystem")


def test_a_pvc_and_the_volume_with_its_claim_ref_are_bound(
    server: ApiServer, claim: Object, space: str
) -> None:
    """The PVC has the name and the capacity of the volume; the volume outlives the PVC and is Released."""
    where = path(CLAIMS, space, "models")
    volume = server.create(VOLUMES, volume_for(claim))["metadata"]["name"]
    until(lambda: phase(server, where) == "Bound", 15, "the PVC is bound")
    bound = server.get(where)
    assert (bound["spec"]["volumeName"], bound["status"]["capacity"]) == (volume, {"storage": "2Gi"})
    until(lambda: phase(server, f"{VOLUMES}/{volume}") == "Bound", 15, "the volume is bound")
    assert server.ask("DELETE", where).code == 200
    until(lambda: phase(server, f"{VOLUMES}/{volume}") == "Released", 15, "the volume is released")
    assert server.ask("DELETE", f"{VOLUMES}/{volume}").code == 200


def test_a_volume_of_a_deleted_namesake_is_not_bound(server: ApiServer, claim: Object, space: str) -> None:
    """The uid differs: the data of the previous PVC is not given to the new one."""
    created = server.create(VOLUMES, volume_for(claim, uid="11111111-0000-4000-8000-000000000000"))
    where = f"{VOLUMES}/{created['metadata']['name']}"
    until(lambda: phase(server, where) == "Released", 15, "the volume is released")
    assert phase(server, path(CLAIMS, space, "models")) == "Pending"
    assert server.ask("DELETE", where).code == 200


def test_the_spec_of_a_pvc_is_immutable(server: ApiServer, claim: Object, space: str) -> None:
    """Such as its storage class."""
    refused = server.patch(path(CLAIMS, space, "models"), {"spec": {"storageClassName": "another"}}, MERGE)
    assert refused.code == 422
