"""Every ServiceAccount, verb and resource on a real API server: allowed is exactly what the table grants."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import pytest

from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import Cluster, Kind
from tests.cluster.installed import SYSTEM, Kubectl
from tests.cluster.rights import RIGHTS, account, allowing
from tests.instance import Running

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
GROUPS = ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
UNBOUND = f"system:serviceaccount:{SYSTEM}:unbound"
"""A ServiceAccount without bindings: it has the rights of every ServiceAccount of any cluster."""
_AT_ONCE = 32


class Status(msgspec.Struct):
    """The status of a SubjectAccessReview."""

    allowed: bool = False


class Review(msgspec.Struct):
    """A SubjectAccessReview as the API server returns it."""

    status: Status


REVIEWS: Kind[Review] = Kind(
    "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", Review, namespaced=False
)


class Access(NamedTuple):
    """One access to review; an empty namespace means all namespaces."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


def resources(kubectl: Kubectl) -> set[tuple[str, str]]:
    """Return group and name of every resource of the API server, with subresources."""
    paths = ["/api/v1"]
    groups = json.loads(kubectl.accepted("get", "--raw", "/apis"))["groups"]
    paths += [f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]]
    names = set()
    for path in paths:
        listing = json.loads(kubectl.accepted("get", "--raw", path))
        group = listing["groupVersion"].rpartition("/")[0]
        names |= {(group, resource["name"]) for resource in listing["resources"]}
    return names | {("ai.flexinfer", "models/finalizers")}


def accesses(service: str, offered: set[tuple[str, str]]) -> list[Access]:
    """Return the accesses to review for a component: all, and for narrower rights other namespaces and names."""
    asked = [Access(verb, *resource) for verb, resource in itertools.product(VERBS, sorted(offered))]
    for right in RIGHTS[service]:
        names = ("", *right.names, "another")
        places = ("default", "kube-system", SYSTEM)
        asked += [
            Access(verb, right.group, right.resource, place, name)
            for verb, place, name in itertools.product(VERBS, places, names)
        ]
    return list(dict.fromkeys(asked))


async def reviews(api: Cluster, user: str, asked: list[Access]) -> Mapping[Access, bool]:
    """Return user's access as the API server decides it."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(access: Access) -> bool:
        resource, _, subresource = access.resource.partition("/")
        attributes: dict[str, Any] = {
            "verb": access.verb,
            "group": access.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": access.namespace,
            "name": access.name,
        }
        spec = {"user": user, "groups": GROUPS, "resourceAttributes": attributes}
        body = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.name, "spec": spec}
        async with slots:
            return (await api.create(REVIEWS, "", body)).status.allowed

    return dict(zip(asked, await asyncio.gather(*(one(access) for access in asked)), strict=True))


@pytest.mark.parametrize("service", RIGHTS)
async def test_a_component_has_the_rights_of_the_table_and_no_others(
    plane: Running, installed: Kubectl, service: str
) -> None:
    """Thousands of SubjectAccessReviews; rights that every ServiceAccount has are not counted."""
    asked = accesses(service, resources(installed))
    async with client.connected(plane.environment()["KUBECONFIG"]) as api:
        unbound = await reviews(api, UNBOUND, asked)
        allowed = await reviews(api, account(service), asked)
    expected = {
        access: unbound[access]
        or allowing(service, access.verb, access.group, access.resource, access.namespace, access.name)
        is not None
        for access in asked
    }
    assert {access: yes for access, yes in allowed.items() if yes != expected[access]} == {}
    assert sum(allowed.values()) > sum(unbound.values())


async def test_a_service_account_without_bindings_has_few_rights(plane: Running, installed: Kubectl) -> None:
    """Reviews of itself, and the certificate authorities that every client may read.

    So the test above is not vacuous.
    """
    asked = [Access(verb, *res) for verb, res in itertools.product(VERBS, sorted(resources(installed)))]
    async with client.connected(plane.environment()["KUBECONFIG"]) as api:
        decisions = await reviews(api, UNBOUND, asked)
    allowed = {(access.group, access.resource) for access, yes in decisions.items() if yes}
    assert {group for group, _ in allowed} <= {
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
    }
