"""One session of kubectl on a real API server and on ours: every line, every complaint and every exit code must be the same.

What differs by its nature (times, uids, versions, ages, temporary paths) is masked; what differs for a reason is taken out by a rule
that has a name and says the reason.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from tests.apiserver import ApiServer, control_plane_api, kill_local_api, start_local_api
from tests.cluster.transcript import STEPS, Step
from tests.definitions import the_crd
from tests.instance import BIN, Running

MASKS = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000)", "<time>"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
    (r'(resourceVersion[\\\\]*"?: ?[\\\\]*"?|Resource Version:\s+)\d+', r"\1<version>"),
    (r"(?<=\s)\d+(\.\d+)?[smh](?=\s|$)", "<age>"),
    (r"/\S*/(LIVE|MERGED)-\d+\S*", r"<folder>/\1"),
)
OFFERED = {"models"} | {res.plural for res in builtin_registry().resources()}
GROUPS = {"ai.flexinfer/v1alpha2"} | {res.api_version for res in builtin_registry().resources()}


def kinds_not_offered(step: Step, text: str) -> str:
    """Leave out the kinds and groups that our API does not offer, and the width of columns that follows from them."""
    if step.line.startswith("api-versions"):
        return "\n".join(line for line in text.splitlines() if line in GROUPS)
    if not step.line.startswith("api-resources"):
        return text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    other = ("events.k8s.io/v1",)
    kept = (row for row in rows if row.split(" ")[:1] and row.split(" ")[0] in {*OFFERED, "NAME"})
    return "\n".join(row for row in kept if not any(group in row for group in other))


def server_address(step: Step, text: str) -> str:
    """Leave out where clients are sent by their own address: every server has another, ours tells none."""
    return re.sub(r'"serverAddressByClientCIDRs":\[.*?\]', "", text)


def build_of_the_server(step: Step, text: str) -> str:
    """Leave out of what commit and by which compiler a server was built."""
    told = r"^  (compiler|gitCommit|gitTreeState|gitVersion|goVersion|buildDate|platform):.*$"
    return re.sub(told, "", text, flags=re.MULTILINE) if step.line.startswith("version") else text


def difference_of_pods(step: Step, text: str) -> str:
    """Leave out the comparison of internal structures that Go prints behind the refusal of a Pod's change."""
    head, sign, _ = text.partition("(allow it to be set to 1 if it was previously negative)")
    return head + sign


def protection_of_claims(step: Step, text: str) -> str:
    """Leave out the finalizer that keeps a claim in use: ours has no controller that would take it off."""
    return text.replace("  finalizers:\n  - kubernetes.io/pvc-protection\n", "")


RULES: tuple[Callable[[Step, str], str], ...] = (
    kinds_not_offered,
    server_address,
    build_of_the_server,
    difference_of_pods,
    protection_of_claims,
)


@pytest.fixture(scope="module")
def worlds(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, ApiServer]]:
    """Return a real API server and ours, both with our definition."""
    real = control_plane_api(plane)
    real.define(the_crd())
    ours = start_local_api(tmp_path_factory.mktemp("transcript") / "state")
    yield real, ours
    kill_local_api(ours)


def typed(server: ApiServer, home: Path, step: Step) -> tuple[int, str, str]:
    """Return exit code, output and complaint of a line, masked and filtered."""
    done = subprocess.run(
        [BIN / "kubectl", "--namespace=transcript", *step.words],
        env=dict(os.environ, HOME=str(home / server.kind), KUBECONFIG=str(server.kubeconfig)),
        input=step.given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, plain(step, done.stdout), plain(step, done.stderr)


def plain(step: Step, text: str) -> str:
    """Return a text without what may differ."""
    for rule in RULES:
        text = rule(step, text)
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.rstrip("\n")


def test_the_session_is_long_enough() -> None:
    """Fifty commands, of every kind."""
    assert len(STEPS) >= 50
    assert {
        *("apply", "create", "delete", "get", "patch", "diff", "explain", "describe", "label", "annotate"),
        *("wait", "replace", "logs", "events", "api-resources", "api-versions", "version"),
    } <= {step.line.split()[0] for step in STEPS}


def test_every_rule_says_its_reason() -> None:
    """A filter without a reason hides a bug."""
    assert all(rule.__doc__ for rule in RULES)


def test_both_servers_say_the_same_line_by_line(
    worlds: tuple[ApiServer, ApiServer], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """One step after the other, in both."""
    real, ours = worlds
    for number, step in enumerate(STEPS):
        with subtests.test(number=number, line=step.line):
            assert typed(ours, tmp_path, step) == typed(real, tmp_path, step)
