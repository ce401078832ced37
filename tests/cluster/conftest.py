"""The real control plane of these tests, with the manifests of deploy/base."""

from collections.abc import Iterator

import pytest

from tests.cluster.installed import Kubectl, apply_definitions, apply_policies
from tests.instance import Running


@pytest.fixture(scope="session")
def prepared(plane: Running) -> Kubectl:
    """A kubectl on a control plane with the CRD and the namespace flexinfer-system only."""
    kubectl = Kubectl(plane)
    apply_definitions(kubectl)
    return kubectl


@pytest.fixture(scope="session")
def installed(prepared: Kubectl) -> Kubectl:
    """A kubectl on a control plane with the RBAC rules, admission policies and Services of deploy/base."""
    apply_policies(prepared)
    return prepared


@pytest.fixture(scope="module", autouse=True)
def leaves_no_node_behind(plane: Running) -> Iterator[None]:
    """Fail a file whose tests leave Nodes, DeviceClasses, ResourceSlices, or objects of ours in the control plane.

    The files of a worker share it in an order that varies: a scheduler of the next file would count the Nodes, and its components would
    start the Models.
    """
    before = _present(plane)
    yield
    left = _present(plane) - before
    assert not left, f"left behind: {sorted(left)}"


def _present(plane: Running) -> set[str]:
    """Return what the next file would see; before the CRDs are applied there is nothing of ours."""
    others = plane.kubectl("get", "nodes,deviceclasses,resourceslices", "-o", "name")
    ours = plane.kubectl(
        "get", "models,sharedgroups,gpuleases", "--all-namespaces", "-o", "name", check=False
    )
    return {*others.split(), *ours.split()}
