"""The local API as a process, and kubectl against it."""

from collections.abc import Iterator

import pytest

from tests.apiserver import LocalApi, kill_local_api, start_local_api
from tests.kubectl import Kubectl, kubectl_on


@pytest.fixture(scope="session")
def local_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """One local API for all tests of a run, which use separate namespaces."""
    api = start_local_api(tmp_path_factory.mktemp("api") / "state")
    yield api
    kill_local_api(api)


@pytest.fixture
def kubectl(local_api: LocalApi, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """A kubectl against the shared local API, in a new namespace."""
    return kubectl_on(local_api, tmp_path_factory.getbasetemp() / "home")
