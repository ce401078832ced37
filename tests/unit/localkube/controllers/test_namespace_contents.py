"""What every namespace has, as on a cluster: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`."""

from localkube.apiserver.requests import Patch
from localkube.controllers.namespace_contents import ACCOUNT, ROOT_CA, NamespaceContents
from tests.unit.localkube.controllers.harness import NAMESPACE, Harness

PEM = "-----BEGIN CERTIFICATE-----\n"


def a_harness(authority: str = PEM) -> Harness:
    """Return a harness with the controller."""
    return Harness(lambda store, _now: NamespaceContents(store, authority))


def data(harness: Harness) -> dict[str, str]:
    """Return what the ConfigMap holds."""
    held: dict[str, str] = harness.get("configmaps", ROOT_CA).get("data", {})
    return held


def test_a_namespace_gets_both() -> None:
    """Those that were there before too."""
    harness = a_harness()
    harness.make("namespaces", {"metadata": {"name": "team"}})
    harness.settle()
    assert data(harness) == {"ca.crt": PEM}
    for space in (NAMESPACE, "team"):
        assert harness.store.find(harness.resource("serviceaccounts"), space, ACCOUNT) is not None
        assert harness.store.find(harness.resource("configmaps"), space, ROOT_CA) is not None


def test_what_was_deleted_or_edited_is_restored() -> None:
    """As kube-controller-manager does."""
    harness = a_harness()
    harness.settle()
    harness.delete("serviceaccounts", ACCOUNT)
    change = Patch("merge", {"data": {"ca.crt": "x", "more": "y"}})
    harness.store.patch(harness.resource("configmaps"), NAMESPACE, ROOT_CA, change)
    harness.settle()
    assert harness.get("serviceaccounts", ACCOUNT) and data(harness) == {"ca.crt": PEM}
    harness.delete("configmaps", ROOT_CA)
    harness.settle()
    assert data(harness) == {"ca.crt": PEM}


def test_a_server_without_tls_has_no_authority_to_publish() -> None:
    """The ServiceAccount is there."""
    harness = a_harness("")
    harness.settle()
    assert harness.get("serviceaccounts", ACCOUNT) and not data(harness)


def test_a_terminating_namespace_gets_nothing_back() -> None:
    """Its deletion would never end."""
    harness = a_harness()
    harness.make("namespaces", {"metadata": {"name": "team", "finalizers": ["x/y"]}})
    harness.delete("namespaces", "team")
    harness.settle()
    assert harness.store.find(harness.resource("serviceaccounts"), "team", ACCOUNT) is None
