"""Credentials are made once: nothing is overwritten, and what was cut off is gone on with."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.credentials.secrets import (
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
    """A Kubernetes API that is new."""
    registry = builtin_registry()
    store = Store(registry, now=lambda: datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    bootstrap(store, registry, content())
    return StoreCluster(store)


async def held(cluster: StoreCluster, name: str) -> dict[str, bytes]:
    """Return what a Secret holds."""
    found = await cluster.get(SECRETS, SYSTEM_NAMESPACE, name)
    return {key: base64.b64decode(value) for key, value in found.data.items()}


async def everything(cluster: StoreCluster) -> dict[str, dict[str, bytes]]:
    """Return what all Secrets of ours hold."""
    found = (AUTHORITY_SECRET, SERVER_SECRET, *(secret_of(user) for user in USERS))
    return {name: await held(cluster, name) for name in found}


def certificate(pem: bytes) -> x509.Certificate:
    """Read a certificate."""
    return x509.load_pem_x509_certificate(pem)


async def test_a_new_cluster_gets_an_authority_a_server_and_its_users(cluster: StoreCluster) -> None:
    """Each user has a password of its own, and what the server is to be known by."""
    made = await make(cluster, DOMAIN)
    assert sorted(made) == sorted((AUTHORITY_SECRET, SERVER_SECRET, *(secret_of(user) for user in USERS)))
    authority = await held(cluster, AUTHORITY_SECRET)
    passwords = [(await held(cluster, secret_of(user)))["password"] for user in USERS]
    assert len(set(passwords)) == len(USERS)
    assert all(password.startswith(b"p") and len(password) > 40 for password in passwords)
    for user in USERS:
        assert (await held(cluster, secret_of(user)))["ca.crt"] == authority["ca.crt"]


async def test_the_server_is_certified_for_every_name_that_it_has(cluster: StoreCluster) -> None:
    """By the authority that the users hold, and to its peers as well as to clients."""
    await make(cluster, DOMAIN)
    server = await held(cluster, SERVER_SECRET)
    leaf = certificate(server["tls.crt"])
    leaf.verify_directly_issued_by(certificate(server["ca.crt"]))
    told = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names(DOMAIN)) <= set(told.get_values_for_type(x509.DNSName))
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {use._name for use in usage} == {"serverAuth", "clientAuth"}


async def test_nobody_but_its_own_secret_holds_the_authoritys_key(cluster: StoreCluster) -> None:
    """Whoever holds it can stand in for NATS."""
    await make(cluster, DOMAIN)
    assert [name for name, files in (await everything(cluster)).items() if "ca.key" in files] == [
        AUTHORITY_SECRET
    ]


async def test_what_is_there_stays(cluster: StoreCluster) -> None:
    """The next apply runs it again."""
    await make(cluster, DOMAIN)
    before = await everything(cluster)
    assert await make(cluster, DOMAIN) == []
    assert await everything(cluster) == before


@pytest.mark.parametrize("lost", [SERVER_SECRET, secret_of("placer")])
async def test_what_is_missing_is_made_by_the_authority_that_there_is(
    cluster: StoreCluster, lost: str
) -> None:
    """A run that was cut off, or a Secret that somebody deleted to have another."""
    await make(cluster, DOMAIN)
    before = await everything(cluster)
    await cluster.delete(SECRETS, SYSTEM_NAMESPACE, lost)
    with pytest.raises(NotFoundError):
        await held(cluster, lost)
    assert await make(cluster, DOMAIN) == [lost]
    after = await everything(cluster)
    assert after[lost] != before[lost]
    assert after[lost]["ca.crt"] == before[AUTHORITY_SECRET]["ca.crt"]
    assert {k: v for k, v in after.items() if k != lost} == {k: v for k, v in before.items() if k != lost}
    server = after[SERVER_SECRET]
    certificate(server["tls.crt"]).verify_directly_issued_by(certificate(server["ca.crt"]))
