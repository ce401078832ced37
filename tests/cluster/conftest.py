"""The real control plane of these tests, with the manifests of deploy/base."""

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
