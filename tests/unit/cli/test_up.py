"""What `flexinfer up` says at the end: a first command that works as it is typed, in any shell of this machine."""

from pathlib import Path

import pytest

from flexinfer.cli.up import next_steps
from flexinfer.local.instance import PLANE, Instance
from flexinfer.local.ports import Ports


@pytest.mark.parametrize(("folder", "named"), [("default", False), ("a b", True)])
def test_the_first_command_sets_its_environment_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, *, named: bool
) -> None:
    """A kubectl without it asks localhost:8080; the state folder is named unless every command would use it."""
    monkeypatch.setenv("FLEXINFER_STATE", str(tmp_path / "default"))
    instance = Instance(tmp_path / folder, "i", Ports(proxy=1, api=2, nats=3, node=4), PLANE)
    hint = next_steps(instance).splitlines()[-1]
    chosen = f" --state '{tmp_path / folder}'" if named else ""
    assert hint.startswith('Try: eval "$(')
    assert f'flexinfer env{chosen})" && ' in hint
    assert hint.endswith("kubectl get --raw /version")
