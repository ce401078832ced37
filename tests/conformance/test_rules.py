"""Every rule of the definition: the verdict and the message of this API server beside those of our own, equal."""

from typing import Any

import pytest

from localkube.apiserver.errors import ApiError
from tests.apiserver import DEFINITIONS, ApiServer, Object
from tests.cases import CASES
from tests.conformance.objects import MODELS, a_model, path
from tests.definitions import MODELS as RESOURCE
from tests.definitions import a_plain_model, a_registry, the_crd


def ours(name: str = "llama", **spec: Any) -> list[tuple[str, str, str]]:
    """Return what our own API has against a Model, asked in this very process."""
    try:
        a_registry().admit(RESOURCE, a_plain_model(name, **spec), None)
    except ApiError as error:
        causes = (error.details or {}).get("causes", ())
        return sorted((cause["field"], cause["reason"], cause["message"]) for cause in causes)
    return []


def theirs(server: ApiServer, space: str, name: str = "llama", **spec: Any) -> list[tuple[str, str, str]]:
    """Return what the server has against it, asked dry."""
    reply = server.ask("POST", path(MODELS, space), a_model(name, **spec), dryRun="All")
    assert (reply.code == 201) == (not reply.causes), reply.body
    return reply.causes


@pytest.mark.parametrize("part", sorted(CASES))
def test_a_rule_accepts_and_refuses_as_ours_does(server: ApiServer, space: str, part: str) -> None:
    """Field, reason and message."""
    good, bad = CASES[part]
    assert theirs(server, space, **good) == []
    refused = theirs(server, space, **bad)
    assert [message for _, _, message in refused if part in message] != []
    assert refused == ours(**bad)


def test_the_definition_is_established_without_a_complaint(server: ApiServer) -> None:
    """No cost of a rule is too great, and the schema is structural."""
    found: Object = server.get(f"{DEFINITIONS}/{the_crd()['metadata']['name']}")
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert found["status"]["storedVersions"] == ["v1alpha2"]
