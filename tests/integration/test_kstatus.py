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
_STARTED = ("Accepted", "Placed", "Cached", "Wanted", "Granted")


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
    while isinstance(write := next_write(model, changed_at=0, now=1000), WriteStatus):
        model = actions.written(write)
    return model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (a_model(backend="llamacp", conditions=[("Ready", "False", "NotStarted")]), "Failed"),
        (a_model(conditions=["Accepted", "Placed", ("Cached", "False", Reason.SOURCE_NOT_FOUND)]), "Failed"),
        (a_model(conditions=[*_STARTED, ("Ready", "False", "Loading")]), "InProgress"),
        (a_model(conditions=[*_STARTED, "Ready"]), "Current"),
    ],
    ids=["refused", "no such source", "loading", "ready"],
)
def test_what_waits_by_kstatus_is_not_kept_waiting(kstatus: Path, model: Model, expected: str) -> None:
    """A Model that only a change can help has failed; one that starts is in progress."""
    named = {"apiVersion": API_VERSION, "kind": KIND}
    body = msgspec.json.encode(msgspec.to_builtins(settled(model)) | named)
    said = subprocess.run([str(kstatus)], input=body, capture_output=True, check=True).stdout.decode()
    assert said.split()[0] == expected
