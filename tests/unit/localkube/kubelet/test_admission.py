"""Admission: what is not offered is refused by name."""

import pytest

from localkube.kubelet.admission import rejection
from localkube.kubelet.client import Object

PLAIN: Object = {"name": "c", "image": "i"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"containers": [PLAIN], "initContainers": [PLAIN]}, "", id="plain"),
        pytest.param(
            {"containers": [PLAIN], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "init container s has a restartPolicy",
            id="sidecar",
        ),
        pytest.param(
            {"containers": [{"name": "c", "lifecycle": {"postStart": {"exec": {}}}}]},
            "container c has a postStart hook",
            id="hook",
        ),
        pytest.param(
            {"containers": [PLAIN], "resourceClaims": [{"name": "g"}]}, "no resource claims", id="claims"
        ),
    ],
)
def test_a_pod_is_taken_or_told_what_is_not_offered(spec: Object, words: str) -> None:
    """Before anything of it starts."""
    said = rejection({"spec": spec})
    assert said.count(words) == 1 if words else said == ""
