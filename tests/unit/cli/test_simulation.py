"""`flexinfer up --simulate-gpus`: what is refused before anything starts, in one sentence."""

import os
from pathlib import Path

import pytest

from flexinfer.cli.__main__ import main
from flexinfer.cli.prepare import Choices
from flexinfer.local import instance as instances
from flexinfer.local.installation import installed
from flexinfer.local.lock import locked
from flexinfer.local.simulation import files
from flexinfer.local.supervisor import record

HOMELAB = Path(__file__).resolve().parents[3] / "examples" / "simulated" / "homelab.yaml"


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_file_with_a_mistake_is_refused_with_its_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], detach: list[str]
) -> None:
    """And the remedy."""
    file = tmp_path / "file.yaml"
    file.write_text("nodes: [{name: a, gpus: [{profile: rx-7900}]}]")
    words = ["up", "--state", str(tmp_path / "state"), "--simulate-gpus", str(file), *detach]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert (
        "file.yaml: nodes[0].gpus[0].profile: 'rx-7900' is not a known card; did you mean rx-7900-xtx?"
        in told
    )


def test_a_real_control_plane_has_no_simulated_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their identities are those of one machine."""
    words = ["up", "--state", str(tmp_path), "--simulate-gpus", str(HOMELAB), "--api", "real", "--detach"]
    assert main(words) == 1
    assert "--simulate-gpus needs the local API: leave --api out" in capsys.readouterr().err


def test_a_folder_of_this_machine_does_not_become_a_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its Models are bound to a node that would be gone."""
    instances.ensure(tmp_path)
    assert main(["up", "--state", str(tmp_path), "--simulate-gpus", str(HOMELAB), "--detach"]) == 1
    assert "was created without simulated GPUs: choose another folder with --state" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("running", "words"),
    [
        ("homelab.yaml", "but not all of it was ready within 0s"),
        ("one-card.yaml", "with other nodes than those of"),
    ],
)
def test_what_runs_with_other_nodes_is_not_taken_for_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], running: str, words: str
) -> None:
    """Also with --detach, to which a running instance is a success."""
    files.save(instances.ensure(tmp_path), HOMELAB.with_name(running))
    with locked(tmp_path):
        selection = ["--simulate-gpus", str(HOMELAB), "--detach", "--timeout", "0"]
        assert main(["up", "--state", str(tmp_path), *selection]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "variables", "difference"),
    [
        ([], {"FLEXINFER_PROXY_HOST": "0.0.0.0"}, "FLEXINFER_PROXY_HOST is 127.0.0.1, not 0.0.0.0"),
        ([], {"FLEXINFER_PROXY_PORT": "1"}, "FLEXINFER_PROXY_PORT is "),
        ([], {"FLEXINFER_LOADING_SECONDS": "6"}, "FLEXINFER_LOADING_SECONDS is 5, not 6"),
        ([], {"FLEXINFER_DRAIN_SECONDS": "7"}, "FLEXINFER_DRAIN_SECONDS is not set, not 7"),
        (["--separate"], {}, "--separate is not set"),
        (["--api", "real"], {}, "--api is local, not real"),
        (["--audit"], {"FLEXINFER_LOADING_SECONDS": "5.0"}, ""),
        ([], {}, ""),
    ],
)
def test_what_runs_with_other_settings_is_not_taken_for_what_was_asked(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    variables: dict[str, str],
    difference: str,
) -> None:
    """What was not asked for now, or is so already, is no difference."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    running = record.Started(
        settings={"FLEXINFER_LOADING_SECONDS": "5"},
        options=("--audit",),
        installation=installed(),
        pid=os.getpid(),
    )
    content = record.encode(record.Record(boot=record.boot_id(), started=running))
    instances.ensure(tmp_path).record.write_bytes(content)
    with locked(tmp_path):
        assert main(["up", "--state", str(tmp_path), "--detach", "--timeout", "0", *words]) == 1
    text = capsys.readouterr().err
    assert ("with other settings: " in text) == bool(difference)
    assert difference in text
    assert f"`flexinfer down --state {tmp_path}`" in text


def test_the_process_in_the_background_gets_the_same_choices() -> None:
    """As options of `up`; nothing that was not chosen."""
    assert Choices().words == []
    chosen = Choices(world="local", audit=True, separate=True, simulation=Path("/f.yaml"))
    assert chosen.words == ["--api", "local", "--separate", "--audit", "--simulate-gpus", "/f.yaml"]
