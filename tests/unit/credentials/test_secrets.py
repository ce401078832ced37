"""Credentials are created once: nothing is overwritten, and an interrupted run is completed by the next."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.credentials.secrets import (
    API_KEY_FILE,
    API_KEY_SECRET,
    AUTHORITY_SECRET,
    SECRETS,
    SERVER_SECRET,
    USERS,
    make,
    names,
    secret_of,
)
from flexinfer.local.cluster_content import content
from flexinfer.runtime.kubernetes.api import NotFoundError
from localkube.apiserver.bootstrap import bootstrap
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.store import Store
from tests.store_cluster import StoreCluster

DOMAIN = "cluster.local"


@pytest.fixture
def cluster() -> StoreCluster:
    """A Kubernetes API without objects."""
    registry = builtin_registry()
    store = Store(registry, now=lambda: datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    bootstrap(store, registry, content())
    return StoreCluster(store)


async def held(cluster: StoreCluster, name: str) -> dict[str, bytes]:
    """Return the data of a Secret."""
    secret = await cluster.get(SECRETS, SYSTEM_NAMESPACE, name)
    return {key: base64.b64decode(value) for key, value in secret.data.items()}


async def everything(cluster: StoreCluster) -> dict[str, dict[str, bytes]]:
    """Return the data of all Secrets."""
    expected = (AUTHORITY_SECRET, SERVER_SECRET, API_KEY_SECRET, *(secret_of(user) for user in USERS))
    return {name: await held(cluster, name) for name in expected}


def certificate(pem: bytes) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(pem)


async def test_a_new_cluster_gets_an_authority_a_server_and_its_users(cluster: StoreCluster) -> None:
    """Each user has another password, and the certificate that verifies the server."""
    created = await make(cluster, DOMAIN)
    expected = (AUTHORITY_SECRET, SERVER_SECRET, API_KEY_SECRET, *(secret_of(user) for user in USERS))
    assert sorted(created) == sorted(expected)
    authority = await held(cluster, AUTHORITY_SECRET)
    passwords = [(await held(cluster, secret_of(user)))["password"] for user in USERS]
    assert len(set(passwords)) == len(USERS)
    assert all(password.startswith(b"p") and len(password) > 40 for password in passwords)
    for user in USERS:
        assert (await held(cluster, secret_of(user)))["ca.crt"] == authority["ca.crt"]


async def test_the_proxy_gets_an_api_key(cluster: StoreCluster) -> None:
    """Alone in its Secret: who may read it reads nothing else."""
    await make(cluster, DOMAIN)
    secret = await held(cluster, API_KEY_SECRET)
    assert list(secret) == [API_KEY_FILE]
    assert len(secret[API_KEY_FILE]) > 40


async def test_the_servers_certificate_has_every_dns_name(cluster: StoreCluster) -> None:
    """Signed by the authority that the users trust, for its peers as well as for clients."""
    await make(cluster, DOMAIN)
    server = await held(cluster, SERVER_SECRET)
    leaf = certificate(server["tls.crt"])
    leaf.verify_directly_issued_by(certificate(server["ca.crt"]))
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names(DOMAIN)) <= set(alternatives.get_values_for_type(x509.DNSName))
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {use._name for use in usage} == {"serverAuth", "clientAuth"}


async def test_only_the_authoritys_secret_holds_its_key(cluster: StoreCluster) -> None:
    """With the key one can impersonate NATS."""
    await make(cluster, DOMAIN)
    assert [name for name, files in (await everything(cluster)).items() if "ca.key" in files] == [
        AUTHORITY_SECRET
    ]


async def test_a_secret_that_exists_is_left_unchanged(cluster: StoreCluster) -> None:
    """The next `kubectl apply` runs the Job again."""
    await make(cluster, DOMAIN)
    before = await everything(cluster)
    assert await make(cluster, DOMAIN) == []
    assert await everything(cluster) == before


@pytest.mark.parametrize("lost", [SERVER_SECRET, secret_of("placer"), API_KEY_SECRET])
async def test_a_missing_secret_is_signed_by_the_existing_authority(cluster: StoreCluster, lost: str) -> None:
    """After an interrupted run, or to rotate a password or certificate."""
    await make(cluster, DOMAIN)
    before = await everything(cluster)
    await cluster.delete(SECRETS, SYSTEM_NAMESPACE, lost)
    with pytest.raises(NotFoundError):
        await held(cluster, lost)
    assert await make(cluster, DOMAIN) == [lost]
    after = await everything(cluster)
    assert after[lost] != before[lost]
    if lost != API_KEY_SECRET:
        assert after[lost]["ca.crt"] == before[AUTHORITY_SECRET]["ca.crt"]
    assert {k: v for k, v in after.items() if k != lost} == {k: v for k, v in before.items() if k != lost}
    server = after[SERVER_SECRET]
    certificate(server["tls.crt"]).verify_directly_issued_by(certificate(server["ca.crt"]))
