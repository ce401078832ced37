"""One kubectl session on a real API server and on localkube: output, errors and exit codes must be the same.

Times, uids, resourceVersions, ages and temporary paths always differ and are masked; each other permitted
difference is removed by a rule, whose docstring gives the reason.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from tests.apiserver import ApiServer, control_plane_api, kill_local_api, start_local_api
from tests.cluster.transcript import STEPS, Step
from tests.definitions import the_crds
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
    """Remove the kinds and groups that localkube does not serve, and the widths of their columns."""
    if step.line.startswith("api-versions"):
        return "\n".join(line for line in text.splitlines() if line in GROUPS)
    if not step.line.startswith("api-resources"):
        return text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    other = ("events.k8s.io/v1",)
    kept = (row for row in rows if row.split(" ")[:1] and row.split(" ")[0] in {*OFFERED, "NAME"})
    return "\n".join(row for row in kept if not any(group in row for group in other))


def server_address(step: Step, text: str) -> str:
    """Remove serverAddressByClientCIDRs: it differs for every server, and localkube sends none."""
    return re.sub(r'"serverAddressByClientCIDRs":\[.*?\]', "", text)


def order_of_kinds(step: Step, text: str) -> str:
    """Sort the kinds of a group: the real server lists CRDs from a cache without an order, again at each start."""
    if not step.line.startswith("get --raw /apis/") or '"resources"' not in text:
        return text
    listing = json.loads(text)
    return json.dumps({**listing, "resources": sorted(listing["resources"], key=itemgetter("name"))})


def build_of_the_server(step: Step, text: str) -> str:
    """Remove commit and compiler of the server's build."""
    fields = r"^  (compiler|gitCommit|gitTreeState|gitVersion|goVersion|buildDate|platform):.*$"
    return re.sub(fields, "", text, flags=re.MULTILINE) if step.line.startswith("version") else text


def difference_of_pods(step: Step, text: str) -> str:
    """Remove the diff of Go structures that the real server appends when it refuses the change of a Pod."""
    head, sign, _ = text.partition("(allow it to be set to 1 if it was previously negative)")
    return head + sign


def protection_of_claims(step: Step, text: str) -> str:
    """Remove the finalizer pvc-protection: localkube has no controller that would remove it."""
    return text.replace("  finalizers:\n  - kubernetes.io/pvc-protection\n", "")


RULES: tuple[Callable[[Step, str], str], ...] = (
    kinds_not_offered,
    server_address,
    order_of_kinds,
    build_of_the_server,
    difference_of_pods,
    protection_of_claims,
)


@pytest.fixture(scope="module")
def servers(
    plane: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ApiServer, ApiServer]]:
    """Return a real API server and localkube, both with the CRDs."""
    real = control_plane_api(plane)
    for crd in the_crds():
        real.define(crd)
    local = start_local_api(tmp_path_factory.mktemp("transcript") / "state")
    yield real, local
    kill_local_api(local)


def run_step(server: ApiServer, home: Path, step: Step) -> tuple[int, str, str]:
    """Return exit code, output and error output of a step, masked and filtered."""
    done = subprocess.run(
        [BIN / "kubectl", "--namespace=transcript", *step.words],
        env=dict(os.environ, HOME=str(home / server.kind), KUBECONFIG=str(server.kubeconfig)),
        input=step.stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, plain(step, done.stdout), plain(step, done.stderr)


def plain(step: Step, text: str) -> str:
    """Return a text without the permitted differences."""
    for rule in RULES:
        text = rule(step, text)
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.rstrip("\n")


def test_the_session_is_long_enough() -> None:
    """At least fifty commands, and every subcommand."""
    assert len(STEPS) >= 50
    assert {
        *("apply", "create", "delete", "get", "patch", "diff", "explain", "describe", "label", "annotate"),
        *("wait", "replace", "logs", "events", "api-resources", "api-versions", "version"),
    } <= {step.line.split()[0] for step in STEPS}


def test_every_rule_has_a_reason() -> None:
    """A filter without a reason would hide a bug."""
    assert all(rule.__doc__ for rule in RULES)


def test_both_servers_give_the_same_output_line_by_line(
    servers: tuple[ApiServer, ApiServer], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """Each step runs on both servers before the next one."""
    real, local = servers
    for number, step in enumerate(STEPS):
        with subtests.test(number=number, line=step.line):
            assert run_step(local, tmp_path, step) == run_step(real, tmp_path, step)
