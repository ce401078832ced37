"""The requests of the cluster tests are those that the manifests grant, and every granted right was used."""

import os
from pathlib import Path

import pytest

from flexinfer.api.services import SERVICES
from tests.audit import rights
from tests.audit.logs import VARIABLE
from tests.audit.rights import Request


@pytest.fixture(scope="module")
def asked() -> list[Request]:
    """Return every request of the run.

    Every component must have made some, except agents, which write only on nodes with GPUs.
    """
    entries = list(rights.requests(Path(os.environ[VARIABLE])))
    services = {f"flexinfer-{name}" for name in SERVICES if name != "agent"}
    assert {request.right.account for request in entries} >= services
    return entries


def test_every_request_was_allowed_by_a_binding_of_flexinfer(asked: list[Request]) -> None:
    """None relied on the default rights of every ServiceAccount."""
    others = {(r.right, r.path) for r in asked if r.decision == "allow" and not r.rule}
    assert not others


def test_only_granted_requests_were_refused(asked: list[Request]) -> None:
    """For some milliseconds after its start an API server refuses granted requests: RBAC is not loaded yet."""
    refused = {request.right for request in asked if request.decision != "allow"}
    assert not refused - {grant.right for grant in rights.grants()}


def test_every_right_was_used_or_is_explained(asked: list[Request]) -> None:
    """An unused right must be removed."""
    used = {request.right for request in asked}
    idle = [grant.right for grant in rights.grants() if grant.right not in used and not grant.explained]
    assert not idle
