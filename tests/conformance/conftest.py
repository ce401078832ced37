"""The API server under test: the local API as a process, or with `--api real` a real one with the CRD."""

import itertools
import os
from collections.abc import Iterator

import pytest

from flexinfer.local.instance import LOCAL
from tests.apiserver import ApiServer, control_plane_api, kill_local_api, start_local_api
from tests.conformance.objects import MODELS, path
from tests.definitions import the_crds
from tests.kubectl import Kubectl, kubectl_on

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(
    api: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    """One API server for all tests of a worker, which use separate namespaces."""
    if api == LOCAL:
        local = start_local_api(tmp_path_factory.mktemp("api") / "state")
        yield local
        kill_local_api(local)
    else:
        real = control_plane_api(request.getfixturevalue("plane"))
        for crd in the_crds():
            real.define(crd)
        yield real


@pytest.fixture
def space(server: ApiServer) -> Iterator[str]:
    """Return a new namespace for one test."""
    name = f"space-{os.getpid()}-{next(_numbers)}"
    server.make_namespace(name)
    yield name
    _forget(server, name)


@pytest.fixture
def kubectl(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A kubectl in a new namespace."""
    one = kubectl_on(server, tmp_path_factory.getbasetemp() / f"home-{server.kind}")
    yield one
    _forget(server, one.namespace)


def _forget(server: ApiServer, space: str) -> None:
    """Delete the Models: components that later tests run on the same control plane would work on them."""
    server.ask("DELETE", path(MODELS, space))
