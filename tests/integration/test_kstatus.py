"""How kstatus reads a Model as the watcher writes it: the library with which Flux and Helm wait (sigs.k8s.io/cli-utils).

Needs `go`, and the modules of tests/kstatus in its cache or a module proxy.
"""

import os
import shutil
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

GO = shutil.which("go")
SOURCE = Path(__file__).parents[1] / "kstatus"
pytestmark = [pytest.mark.integration, pytest.mark.skipif(GO is None, reason="go is not on PATH")]
STARTED = ("Accepted", "Placed", "Cached", "Wanted", "Granted")
AT_REST = (
    *STARTED[:3],
    ("Wanted", "False", Reason.IDLE),
    "Granted",
    ("Ready", "False", Reason.STOPPED),
)


@pytest.fixture(scope="module")
def kstatus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program that prints what kstatus says."""
    program = tmp_path_factory.mktemp("kstatus") / "kstatus"
    assert GO is not None
    if subprocess.run([GO, "mod", "download"], cwd=SOURCE, env=os.environ, check=False).returncode:
        pytest.skip("the modules of tests/kstatus cannot be downloaded")
    subprocess.run([GO, "build", "-o", str(program), "."], cwd=SOURCE, check=True)
    return program


def settled(model: Model) -> Model:
    """Return a Model with the status that the watcher writes."""
    while isinstance(write := next_write(model, 0.0, 1000.0), WriteStatus):
        model = actions.written(write)
    return model


def as_json(model: Model) -> bytes:
    """Return a Model as the API server prints it; a new one has no status."""
    body = msgspec.to_builtins(model) | {"apiVersion": API_VERSION, "kind": KIND}
    return msgspec.json.encode(
        body if model.status.conditions else {k: body[k] for k in body if k != "status"}
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (a_model(backend="llamacp", conditions=[("Ready", "False", "NotStarted")]), "Failed"),
        (a_model(conditions=["Accepted", "Placed", ("Cached", "False", Reason.SOURCE_NOT_FOUND)]), "Failed"),
        (
            a_model(backend="llamacp", conditions=[*STARTED, ("Ready", "True", Reason.SERVING_OLDER_SPEC)]),
            "Failed",
        ),
        (a_model(conditions=[*STARTED, ("Ready", "False", "Loading")]), "InProgress"),
        (a_model(conditions=[*STARTED, "Ready"]), "Current"),
        (a_model(conditions=AT_REST), "InProgress"),
    ],
    ids=[
        "refused",
        "no such source",
        "refused while the spec before is served",
        "loading",
        "ready",
        "scaled to zero",
    ],
)
def test_what_waits_by_kstatus_is_not_kept_waiting(kstatus: Path, model: Model, expected: str) -> None:
    """A Model that only a change can help has failed; one that starts is in progress, and so is one at rest (ADR 0031)."""
    body = as_json(settled(model))
    said = subprocess.run([str(kstatus)], input=body, capture_output=True, check=True).stdout.decode()
    assert said.split()[0] == expected
