"""`flexinfer simulate`: what it prints, what it draws, and one sentence for every refusal."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flexinfer.cli.__main__ import main
from flexinfer.cli.simulate import read

TRACE = """
card: {memoryMB: 24576}
models:
- {name: chat, memoryMB: 8192, loadSeconds: 8, serviceSeconds: 6}
- {name: coder, memoryMB: 14000, priority: 50, loadSeconds: 14}
arrivals:
- {model: chat, at: 0}
- {model: coder, at: 1m}
- {model: chat, at: 90, serviceSeconds: 3}
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Return a file with a trace of three requests."""
    path = tmp_path / "trace.yaml"
    path.write_text(TRACE)
    return path


def test_the_policies_stand_side_by_side(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mode of the group, one Model at a time, and first come, first served."""
    assert main(["simulate", "--trace", str(trace)]) == 0
    rows = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines() if line}
    assert rows["swaps"] == ["0", "2", "2"]
    assert rows["engine starts"] == ["2", "3", "3"]
    assert rows["served without a swap"] == ["100.0%", "33.3%", "33.3%"]
    assert rows["wait"] == ["median", "p95", "longest"] * 3
    assert rows["coder"][:3] == ["14.0s", "14.0s", "14.0s"]
    assert rows["coder"][6:] == ["16.0s", "16.0s", "16.0s"], (
        "first come: two seconds until the other has left"
    )
    assert rows["100"][0] == "8.0s"
    assert "never answered" not in rows


def test_jsonl_holds_the_same_with_an_arrival_a_line(trace: Path, tmp_path: Path) -> None:
    """As an access log is turned into one."""
    head = {"card": {"memoryMB": 24576}, "models": [{"name": "chat", "memoryMB": 8192}]}
    arrivals = [{"model": "chat", "at": at} for at in (3.0, 1.0)]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (head, *arrivals)))
    _, requests = read(str(path))
    assert [request.at for request in requests] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("card: [", "is not YAML"),
        ("card: {memoryMB: 1}", "is not a trace: Object missing required field `models`"),
        ("card: {memoryMB: 1, colour: red}\nmodels: []", "unknown field `colour`"),
        (TRACE.replace("chat, at: 0", "chart, at: 0"), "arrivals name chart"),
    ],
    ids=["YAML", "a field that is missing", "a field that is not known", "a Model that is not listed"],
)
def test_a_file_that_is_no_trace_is_one_sentence(
    trace: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    """And exit status 1."""
    trace.write_text(text)
    assert main(["simulate", "--trace", str(trace)]) == 1
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1


def test_a_file_that_does_not_exist_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """And exit status 1."""
    assert main(["simulate", "--trace", "none.yaml"]) == 1
    assert capsys.readouterr().err == "flexinfer: none.yaml cannot be read: No such file or directory\n"


def test_without_matplotlib_a_plot_says_how_to_install_it(trace: Path, tmp_path: Path) -> None:
    """Before anything is replayed."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "matplotlib.py").write_text("raise ModuleNotFoundError('none', name='matplotlib')\n")
    done = subprocess.run(
        [sys.executable, "-m", "flexinfer.cli", "simulate", "--trace", str(trace), "--plot", "out.svg"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        check=False,
    )
    sentence = "--plot needs matplotlib, which is not installed: pip install 'flexinfer[plot]'"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"flexinfer: {sentence}\n")


def test_the_plot_has_a_lane_for_each_model_and_a_panel_for_each_policy(trace: Path, tmp_path: Path) -> None:
    """The text of the SVG is text, and the same trace is the same file."""
    pytest.importorskip("matplotlib")
    pictures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for picture in pictures:
        assert main(["simulate", "--trace", str(trace), "--plot", str(picture)]) == 0
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", pictures[0].read_text())
    assert texts.count("chat (8192 MiB)") == texts.count("coder (14000 MiB)") == 3
    assert [text.partition(":")[0] for text in texts if "swaps" in text] == [
        "Budget",
        "OneAtATime",
        "first come",
    ]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_a_picture_of_a_format_that_is_not_known_is_one_sentence(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And exit status 1."""
    pytest.importorskip("matplotlib")
    assert main(["simulate", "--trace", str(trace), "--plot", "out.docx"]) == 1
    assert "out.docx cannot be drawn" in capsys.readouterr().err
