"""What those that wait for a Model make of it: kstatus (Flux, Helm), and the health checks of docs/how-to/gitops.md as they stand there.

The checks are judged by Flux's own library and Argo CD's interpreter. `make test-cluster` builds the program
(tests/healthchecks), which takes minutes the first time.
"""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus
from flexinfer.watcher.status_decision import next_write
from tests.builders import a_model
from tests.definitions import ROOT
from tests.healthchecks.program import target

PROGRAM = target(os.environ)
PAGE = (ROOT / "docs" / "how-to" / "gitops.md").read_text()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PROGRAM.exists(), reason="make test-cluster builds the program"),
]
STARTED = ("Accepted", "Placed", "Cached", "Wanted", "Granted")
AT_REST = (
    *STARTED[:3],
    ("Wanted", "False", Reason.IDLE),
    "Granted",
    ("Ready", "False", Reason.STOPPED),
)
_FAILED = ("Accepted", "Placed", ("Cached", "False", Reason.SOURCE_NOT_FOUND))
_QUEUED = (
    *STARTED[:3],
    ("Wanted", "False", Reason.FIRST_START_QUEUED),
    ("Ready", "False", Reason.NOT_STARTED),
)


def settled(model: Model) -> Model:
    """Return a Model with the status that the watcher writes."""
    while isinstance(write := next_write(model, 0.0, 1000.0), WriteStatus):
        model = actions.written(write)
    return model


CASES = {
    "refused": (settled(a_model(backend="llamacp")), "Failed", "Degraded"),
    "no such source": (settled(a_model(conditions=_FAILED)), "Failed", "Degraded"),
    "refused while the spec before is served": (
        settled(
            a_model(backend="llamacp", conditions=[*STARTED, ("Ready", "True", Reason.SERVING_OLDER_SPEC)])
        ),
        "Failed",
        "Degraded",
    ),
    "loading": (
        settled(a_model(conditions=[*STARTED, ("Ready", "False", "Loading")])),
        "InProgress",
        "Progressing",
    ),
    "its first start is to come": (settled(a_model(conditions=_QUEUED)), "InProgress", "Progressing"),
    "scaled to zero": (settled(a_model(conditions=AT_REST)), "Current", "Healthy"),
    "ready": (settled(a_model(conditions=[*STARTED, "Ready"])), "Current", "Healthy"),
    "changed, and not looked at yet": (
        msgspec.structs.replace(
            settled(a_model(conditions=[*STARTED, "Ready"])), metadata=a_model(generation=2).metadata
        ),
        "InProgress",
        "Progressing",
    ),
    "new": (a_model(), "Unknown", "Progressing"),
}


def as_json(model: Model) -> bytes:
    """Return a Model as the API server prints it; a new one has no status."""
    body = msgspec.to_builtins(model) | {"apiVersion": API_VERSION, "kind": KIND}
    return msgspec.json.encode(
        body if model.status.conditions else {k: body[k] for k in body if k != "status"}
    )


def printed(model: Model, *arguments: str) -> str:
    """Return what the program prints for a Model."""
    done = subprocess.run([str(PROGRAM), *arguments], input=as_json(model), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def judged(model: Model, language: str, folder: Path) -> str:
    """Return what the page's block of a language makes of a Model."""
    [block] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    file = folder / f"check.{language}"
    file.write_text(block)
    return printed(model, str(file))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("refused", "Failed"),
        ("no such source", "Failed"),
        ("refused while the spec before is served", "Failed"),
        ("loading", "InProgress"),
        ("ready", "Current"),
        ("scaled to zero", "InProgress"),
    ],
)
def test_what_waits_by_kstatus_is_not_kept_waiting(case: str, expected: str) -> None:
    """A Model that only a change can help has failed; one that starts is in progress, and so is one at rest (ADR 0031)."""
    assert printed(CASES[case][0]).split()[0] == expected


@pytest.mark.parametrize("case", CASES)
def test_flux_reads_a_model_by_the_expressions_of_the_page(case: str, tmp_path: Path) -> None:
    """A Model that is scaled to zero is Current; one that only a change can help is Failed; of one without a status nothing is known."""
    model, expected, _ = CASES[case]
    assert judged(model, "yaml", tmp_path).split() == [expected]


@pytest.mark.parametrize("case", CASES)
def test_argo_cd_reads_a_model_by_the_lua_of_the_page(case: str, tmp_path: Path) -> None:
    """With the message that the Model itself has."""
    model, _, expected = CASES[case]
    said = judged(model, "lua", tmp_path).rstrip("\n")
    assert said.partition(" ")[0] == expected
    if expected == "Degraded":
        assert said.partition(" ")[2] == model.status.message
