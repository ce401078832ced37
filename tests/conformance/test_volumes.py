"""Claims and the volumes made for them: bound to each other by whoever watches both, and by nobody's size."""

from typing import Any

import pytest

from tests.apiserver import MERGE, ApiServer, Object
from tests.conformance.objects import CLAIMS, VOLUMES, path
from tests.instance import until


@pytest.fixture
def claim(server: ApiServer, space: str) -> Object:
    """Return a claim that binds late."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": f"nobody-makes-{space}",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec}
    made: Object = server.create(path(CLAIMS, space), body)
    return made


def volume_for(claim: Object, **reference: Any) -> Object:
    """Return a volume that names its claim, as a provisioner makes it."""
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
    """Return the phase of a claim or volume."""
    return str(server.get(where)["status"].get("phase", ""))


def test_a_claim_waits_until_there_is_a_volume(server: ApiServer, claim: Object, space: str) -> None:
    """Pending, with the mode of a file system."""
    assert (claim["status"]["phase"], claim["spec"]["volumeMode"]) == ("Pending", "Filesystem")


def test_a_claim_and_the_volume_that_names_it_are_bound(server: ApiServer, claim: Object, space: str) -> None:
    """The claim says which volume and how much it really has; the volume outlives the claim, and says that too."""
    where = path(CLAIMS, space, "models")
    volume = server.create(VOLUMES, volume_for(claim))["metadata"]["name"]
    until(lambda: phase(server, where) == "Bound", 15, "the claim is bound")
    bound = server.get(where)
    assert (bound["spec"]["volumeName"], bound["status"]["capacity"]) == (volume, {"storage": "2Gi"})
    until(lambda: phase(server, f"{VOLUMES}/{volume}") == "Bound", 15, "the volume is bound")
    assert server.ask("DELETE", where).code == 200
    until(lambda: phase(server, f"{VOLUMES}/{volume}") == "Released", 15, "the volume is released")
    assert server.ask("DELETE", f"{VOLUMES}/{volume}").code == 200


def test_a_volume_for_a_namesake_that_is_gone_is_not_taken(
    server: ApiServer, claim: Object, space: str
) -> None:
    """Its uid is another's: what the former claim held is not given to the new one."""
    made = server.create(VOLUMES, volume_for(claim, uid="11111111-0000-4000-8000-000000000000"))
    where = f"{VOLUMES}/{made['metadata']['name']}"
    until(lambda: phase(server, where) == "Released", 15, "the volume is released")
    assert phase(server, path(CLAIMS, space, "models")) == "Pending"
    assert server.ask("DELETE", where).code == 200


def test_what_a_claim_asks_for_does_not_change(server: ApiServer, claim: Object, space: str) -> None:
    """Its class, for one."""
    refused = server.patch(path(CLAIMS, space, "models"), {"spec": {"storageClassName": "another"}}, MERGE)
    assert refused.code == 422
