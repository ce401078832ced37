"""What services asked of real API servers during the cluster tier is what the manifests let them, and the other way round."""

import os
from pathlib import Path

import pytest

from flexinfer.api.services import SERVICES
from tests.audit import rights
from tests.audit.logs import VARIABLE
from tests.audit.rights import Request


@pytest.fixture(scope="module")
def asked() -> list[Request]:
    """Return every request of the run; there must be some of each service, but for agents: they write of GPUs alone."""
    found = list(rights.requests(Path(os.environ[VARIABLE])))
    services = {f"flexinfer-{name}" for name in SERVICES if name != "agent"}
    assert {request.right.account for request in found} >= services
    return found


def test_every_request_was_allowed_by_a_rule_of_ours(asked: list[Request]) -> None:
    """None leaned on what Kubernetes lets everybody do."""
    others = {(r.right, r.path) for r in asked if r.decision == "allow" and not r.rule}
    assert not others


def test_nothing_was_refused_that_is_not_granted(asked: list[Request]) -> None:
    """An API server that starts again refuses what it is about to know again, for some milliseconds: seen after each SIGKILL."""
    refused = {request.right for request in asked if request.decision != "allow"}
    assert not refused - {grant.right for grant in rights.grants()}


def test_every_right_was_used_or_says_when_it_is(asked: list[Request]) -> None:
    """A right that nobody needs is one too many."""
    used = {request.right for request in asked}
    idle = [grant.right for grant in rights.grants() if grant.right not in used and not grant.explained]
    assert not idle
