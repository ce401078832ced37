"""What the real control plane of the tests holds in this folder."""

import pytest

from tests.cluster.installed import Kubectl, first, rest
from tests.instance import Running


@pytest.fixture(scope="session")
def prepared(plane: Running) -> Kubectl:
    """Plain kubectl on a plane that knows Models and the namespace flexinfer-system, and nothing more of ours."""
    kubectl = Kubectl(plane)
    first(kubectl)
    return kubectl


@pytest.fixture(scope="session")
def installed(prepared: Kubectl) -> Kubectl:
    """Plain kubectl on a plane that holds the rights, policies and Services of deploy/base."""
    rest(prepared)
    return prepared
