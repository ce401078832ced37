"""Every validation rule of the CRD: the API server accepts and refuses as localkube, with the same messages."""

from typing import Any

import pytest

from localkube.apiserver.errors import ApiError
from tests.apiserver import DEFINITIONS, ApiServer, Object
from tests.cases import CASES
from tests.conformance.objects import MODELS, a_model, path
from tests.definitions import MODELS as RESOURCE
from tests.definitions import a_plain_model, a_registry, the_crd


def local_causes(name: str = "llama", **spec: Any) -> list[tuple[str, str, str]]:
    """Return the causes for which localkube refuses a Model, called in this process."""
    try:
        a_registry().admit(RESOURCE, a_plain_model(name, **spec), None)
    except ApiError as error:
        causes = (error.details or {}).get("causes", ())
        return sorted((cause["field"], cause["reason"], cause["message"]) for cause in causes)
    return []


def server_causes(
    server: ApiServer, space: str, name: str = "llama", **spec: Any
) -> list[tuple[str, str, str]]:
    """Return the causes for which the API server refuses a Model, by a dry run."""
    reply = server.ask("POST", path(MODELS, space), a_model(name, **spec), dryRun="All")
    assert (reply.code == 201) == (not reply.causes), reply.body
    return reply.causes


@pytest.mark.parametrize("part", sorted(CASES))
def test_a_rule_accepts_and_refuses_as_localkube_does(server: ApiServer, space: str, part: str) -> None:
    """Field, reason and message are equal."""
    good, bad = CASES[part]
    assert server_causes(server, space, **good) == []
    refused = server_causes(server, space, **bad)
    assert [message for _, _, message in refused if part in message] != []
    assert refused == local_causes(**bad)


def test_the_crd_is_established(server: ApiServer) -> None:
    """The cost of no rule exceeds the limit, and the schema is structural."""
    crd: Object = server.get(f"{DEFINITIONS}/{the_crd()['metadata']['name']}")
    conditions = {one["type"]: one["status"] for one in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert crd["status"]["storedVersions"] == ["v1alpha2"]
