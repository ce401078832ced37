"""A real control plane for the tests of this folder: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback."""

from collections.abc import Iterator

import pytest

from tests.cluster.installed import Kubectl, first, rest
from tests.instance import Running, instance


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One plane for all tests of a worker; they keep apart by namespaces. Its API server keeps an audit log."""
    with instance(tmp_path_factory.mktemp("plane"), "--api", "plane", "--audit") as running:
        yield running


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
