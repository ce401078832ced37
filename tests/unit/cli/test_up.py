"""What `flexinfer up` says at the end: a first command that works as it is typed, in any shell of this machine."""

import argparse
from pathlib import Path

import pytest

from flexinfer.cli import demo
from flexinfer.cli.errors import CommandError
from flexinfer.cli.up import next_steps
from flexinfer.local.instance import LOCAL, PLANE, Instance
from flexinfer.local.ports import Ports
from flexinfer.local.supervisor.provisioning import write_files


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


def test_the_first_command_works_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Model that it applies is where FlexInfer is installed; in a checkout it has its short name."""
    instance = Instance(tmp_path, "i", Ports(proxy=1, api=2, nats=3, node=4), LOCAL)
    (tmp_path / "secrets").mkdir()
    write_files(instance)
    monkeypatch.chdir(Path(__file__).parents[3])
    assert next_steps(instance).endswith("kubectl apply -f examples/local/smollm2.yaml")
    monkeypatch.chdir(tmp_path)
    path = Path(next_steps(instance).rpartition(" -f ")[2])
    assert path.is_absolute()
    assert "kind: Model" in path.read_text()


def test_a_demo_of_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    """Before anything starts."""
    options = argparse.Namespace(file=tmp_path / "mine.yaml", api=LOCAL)
    with pytest.raises(CommandError, match=r"mine\.yaml does not exist: name the file of a Model"):
        demo.run(options)
