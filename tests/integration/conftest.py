"""A local API as a real process, and plain kubectl against it."""

from collections.abc import Iterator

import pytest

from tests.apiserver import LocalApi, kill_local_api, start_local_api
from tests.kubectl import Kubectl, kubectl_on


@pytest.fixture(scope="session")
def local_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """One local API for all tests of a run; they keep apart by namespaces."""
    api = start_local_api(tmp_path_factory.mktemp("api") / "state")
    yield api
    kill_local_api(api)


@pytest.fixture
def kubectl(local_api: LocalApi, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Plain kubectl against the shared local API."""
    return kubectl_on(local_api, tmp_path_factory.getbasetemp() / "home")
