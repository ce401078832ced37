"""Every ServiceAccount against every verb on every resource that a real API server has: what the table grants, and nothing more."""

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
ELSEWHERE = f"system:serviceaccount:{SYSTEM}:nobody"
"""A ServiceAccount to which nothing is bound: what it may, every ServiceAccount of any cluster may."""
_AT_ONCE = 32


class Status(msgspec.Struct):
    """The verdict."""

    allowed: bool = False


class Review(msgspec.Struct):
    """A SubjectAccessReview, as the API server answers it."""

    status: Status


REVIEWS: Kind[Review] = Kind(
    "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", Review, namespaced=False
)


class Ask(NamedTuple):
    """One question; an empty namespace asks for all of them."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


def resources(kubectl: Kubectl) -> set[tuple[str, str]]:
    """Return group and name of everything that the API server offers, subresources included."""
    paths = ["/api/v1"]
    groups = json.loads(kubectl.taken("get", "--raw", "/apis"))["groups"]
    paths += [f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]]
    found = set()
    for path in paths:
        told = json.loads(kubectl.taken("get", "--raw", path))
        group = told["groupVersion"].rpartition("/")[0]
        found |= {(group, resource["name"]) for resource in told["resources"]}
    return found | {("ai.flexinfer", "models/finalizers")}


def questions(service: str, offered: set[tuple[str, str]]) -> list[Ask]:
    """Return every question about a service: everything everywhere, and where a right is narrower, beside it too."""
    asked = [Ask(verb, *resource) for verb, resource in itertools.product(VERBS, sorted(offered))]
    for right in RIGHTS[service]:
        names = ("", *right.names, "another")
        places = ("default", "kube-system", SYSTEM)
        asked += [
            Ask(verb, right.group, right.resource, place, name)
            for verb, place, name in itertools.product(VERBS, places, names)
        ]
    return list(dict.fromkeys(asked))


async def verdicts(api: Cluster, user: str, asked: list[Ask]) -> Mapping[Ask, bool]:
    """Put all questions to the API server."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(ask: Ask) -> bool:
        resource, _, subresource = ask.resource.partition("/")
        attributes: dict[str, Any] = {
            "verb": ask.verb,
            "group": ask.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": ask.namespace,
            "name": ask.name,
        }
        spec = {"user": user, "groups": GROUPS, "resourceAttributes": attributes}
        body = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.name, "spec": spec}
        async with turn:
            return (await api.create(REVIEWS, "", body)).status.allowed

    return dict(zip(asked, await asyncio.gather(*(one(ask) for ask in asked)), strict=True))


@pytest.mark.parametrize("service", RIGHTS)
async def test_a_service_may_what_the_table_says_and_nothing_else(
    plane: Running, installed: Kubectl, service: str
) -> None:
    """Thousands of SubjectAccessReviews; what any ServiceAccount may is not ours to refuse."""
    asked = questions(service, resources(installed))
    async with client.connected(plane.environment()["KUBECONFIG"]) as api:
        anybody = await verdicts(api, ELSEWHERE, asked)
        found = await verdicts(api, account(service), asked)
    wanted = {
        ask: anybody[ask]
        or allowing(service, ask.verb, ask.group, ask.resource, ask.namespace, ask.name) is not None
        for ask in asked
    }
    assert {ask: allowed for ask, allowed in found.items() if allowed != wanted[ask]} == {}
    assert sum(found.values()) > sum(anybody.values())


async def test_what_any_service_account_may_is_little(plane: Running, installed: Kubectl) -> None:
    """So that the test above proves something: reviews of itself, and the authorities that a cluster shows to all."""
    asked = [Ask(verb, *res) for verb, res in itertools.product(VERBS, sorted(resources(installed)))]
    async with client.connected(plane.environment()["KUBECONFIG"]) as api:
        found = await verdicts(api, ELSEWHERE, asked)
    allowed = {(ask.group, ask.resource) for ask, yes in found.items() if yes}
    assert {group for group, _ in allowed} <= {
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
    }
