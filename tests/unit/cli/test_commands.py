"""Commands over real files, processes and sockets: what they print, and one sentence for every refusal."""

import http.server
import importlib.abc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from flexinfer.cli.__main__ import main, program_name
from flexinfer.cli.commands import COMMANDS
from flexinfer.cli.completion import SHELLS
from flexinfer.cli.env import shell
from flexinfer.cli.services import Row, table
from flexinfer.local import instance as instances
from flexinfer.local.lock import lock_holder
from flexinfer.local.supervisor import provisioning
from flexinfer.runtime import certificates
from tests.instance import until
from tests.patience import patient

CHUNKS = [
    {"choices": [{"delta": {"role": "assistant", "content": None}}]},
    {"choices": [{"delta": {"content": "Par"}}]},
    {"choices": [{"delta": {"content": "is."}}]},
    {"choices": []},
]


class StubProxy(http.server.BaseHTTPRequestHandler):
    """A proxy that streams one answer, refuses one model and cuts the stream of another."""

    def do_POST(self) -> None:
        """Answer a chat completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] == "unknown":
            refusal = json.dumps({"error": {"message": "no model unknown\x1b[2J", "code": "model_not_found"}})
            self.send_response(404)
            self.end_headers()
            self.wfile.write(refusal.encode())
            return
        self.send_response(200)
        self.end_headers()
        for chunk in CHUNKS:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        if body["model"] == "dying":
            self.wfile.write(b'data: {"error": {"message": "engine died"}}\n\n')
        else:
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve a stub proxy and point the environment at it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StubProxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("proxy")
def test_chat_prints_the_answer_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """The parts of the stream make up the line."""
    assert main(["chat", "smollm2", "capital of France?"]) == 0
    assert capsys.readouterr().out == "Paris.\n"


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize(
    ("model", "said"), [("unknown", "request failed: HTTP 404: no model unknown"), ("dying", "engine died")]
)
def test_chat_shows_what_the_proxy_answered(
    capsys: pytest.CaptureFixture[str], model: str, said: str
) -> None:
    """A refusal and a broken stream are each one sentence, and exit status 1."""
    assert main(["chat", model, "hello"]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "\x1b" not in told


def test_chat_without_a_proxy_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at that address."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    assert main(["chat", "smollm2", "hello"]) == 1
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["env", "services", "down"])
def test_a_folder_without_an_instance_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """One sentence, with the command that would make one."""
    assert main([command, "--state", str(tmp_path / "none")]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "flexinfer up" in told


@pytest.mark.parametrize(
    ("typed", "meant"), [("servces", "services"), ("snapshots", "snapshot"), ("wy", "why")]
)
def test_a_mistyped_command_names_the_nearest(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str
) -> None:
    """The list of all of them is what `flexinfer` alone prints."""
    assert main([typed]) == 2
    assert f"did you mean `flexinfer {meant}`?" in capsys.readouterr().err


def test_a_command_that_is_interrupted_while_it_is_loaded_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To import the clients takes a moment, in which a user may press Ctrl-C."""

    class Interrupting(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "flexinfer.cli.snapshot":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "flexinfer.cli.snapshot", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert main(["snapshot"]) == 130
    assert capsys.readouterr().err == ""


def test_up_in_the_background_that_is_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    """Ctrl-C says that nothing is to be started."""
    words = [sys.executable, "-m", "flexinfer.cli", "up", "--detach", "--state", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as command:
        until(lambda: lock_holder(tmp_path) is not None, patient(30), "the instance starts")
        command.send_signal(signal.SIGINT)
        assert command.stderr is not None
        assert command.stderr.read() == b""
    assert command.returncode == 130
    assert lock_holder(tmp_path) is None
    assert main(["services", "--state", str(tmp_path)]) == 1


def test_a_damaged_instance_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file and what is wrong with it."""
    (tmp_path / "instance.json").write_text("{")
    assert main(["env", "--state", str(tmp_path)]) == 1
    assert "instance.json cannot be read" in capsys.readouterr().err


COMMANDS_OF_A_TARGET = (
    ["gpus"],
    ["chat", "m", "hi"],
    ["why", "m"],
    ["lease", "list"],
    ["verify", "m"],
    ["litellm", "render"],
    ["tap"],
    ["bench", "m"],
    ["snapshot"],
    ["check"],
)
"""Commands that ask an instance or a cluster."""


@pytest.mark.parametrize("words", COMMANDS_OF_A_TARGET, ids=" ".join)
@pytest.mark.parametrize("by", ["option", "variable", "exports"])
def test_an_instance_that_does_not_run_is_named_with_the_command_that_starts_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    by: str,
) -> None:
    """However the command came to it; not an address that refuses connections."""
    with instances.opened(tmp_path) as instance:
        provisioning.write_files(instance)
        certificates.issue(instance.certificates, "server")
        for name, value in instance.exports().items():
            monkeypatch.delenv(name, raising=False)
            if by == "exports":
                monkeypatch.setenv(name, value)
        if by == "variable":
            monkeypatch.setenv("FLEXINFER_STATE", str(tmp_path))
        assert main([*words, *(["--state", str(tmp_path)] if by == "option" else [])]) == 1
    assert capsys.readouterr().err == (
        f"flexinfer: FlexInfer in {tmp_path} is not running: `flexinfer up --state {tmp_path}` starts it\n"
    )


@pytest.mark.parametrize("words", COMMANDS_OF_A_TARGET, ids=" ".join)
def test_no_cluster_is_asked_where_the_environment_names_an_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A state folder without an instance is an error, whatever ~/.kube/config has; without either, both are named."""
    for name in ("KUBECONFIG", "OPENAI_BASE_URL", "OPENAI_API_KEY", "NATS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FLEXINFER_STATE", str(tmp_path / "none"))
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("{}")
    assert main(words) == 1
    assert f"no FlexInfer in {tmp_path}/none: `flexinfer up` creates one" in capsys.readouterr().err
    (tmp_path / ".kube" / "config").unlink()
    monkeypatch.delenv("FLEXINFER_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(words) == 1
    assert f"no FlexInfer in {tmp_path}/flexinfer: `flexinfer up` creates one" in capsys.readouterr().err


def test_up_in_the_background_that_ends_at_once_does_not_speak_of_a_time_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it said."""
    instances.ensure(tmp_path)
    (tmp_path / "instance.json").write_text("garbage")
    assert main(["up", "--detach", "--state", str(tmp_path)]) == 1
    refusal = capsys.readouterr().err
    assert "nothing was started" in refusal
    assert "instance.json cannot be read" in refusal


def test_up_names_a_variable_that_nothing_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is dropped, and no component sees it to warn about it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLEXINFER_QUEUE_SECOND", "5")
    assert main(["up", "--detach", "--state", str(tmp_path / "file")]) == 1
    warning = capsys.readouterr().err.splitlines()[0]
    assert warning.startswith("warning: FLEXINFER_QUEUE_SECOND is not a setting and is ignored")
    assert "did you mean FLEXINFER_QUEUE_SECONDS?" in warning


def test_env_is_a_line_that_a_shell_evaluates(tmp_path: Path) -> None:
    """Every value arrives whole, whatever is in it."""
    exports = {"KUBECONFIG": str(tmp_path / "it's $HOME"), "NATS_URL": "nats://tap:a&b@127.0.0.1:1"}
    script = f'{shell(exports)}; printf "%s|%s" "$KUBECONFIG" "$NATS_URL"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "|".join(exports.values())


def test_env_names_the_four_variables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kubectl, OpenAI clients and NATS clients need no more."""
    provisioning.write_files(instances.ensure(tmp_path))
    assert main(["env", "--state", str(tmp_path)]) == 0
    line = capsys.readouterr().out
    assert [word.partition("=")[0] for word in line.split()[1:]] == [
        "KUBECONFIG",
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "NATS_URL",
    ]


def test_services_of_an_instance_that_does_not_run_are_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every process is listed, none has a pid, and scripts see it by the exit status."""
    with instances.opened(tmp_path) as instance:  # another test's may have its ports otherwise
        provisioning.write_files(instance)
        assert main(["services", "--state", str(tmp_path), "-o", "json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert {(row["pid"], row["health"]) for row in rows} == {(None, "down")}
    assert [row["name"] for row in rows] == ["nats", "kubernetes", "controllers", "proxy"]


def test_the_table_is_aligned() -> None:
    """Columns start where their heads do."""
    lines = table([Row("api", 12, "healthy", 0), Row("prefetcher", None, "down", 3)])
    assert lines == [
        "NAME        PID  HEALTH   RESTARTS",
        "api         12   healthy  0",
        "prefetcher  -    down     3",
    ]


def test_a_process_that_is_not_ready_says_why_below_the_table() -> None:
    """`flexinfer services` is the answer to "why does nothing happen?"."""
    lines = table(
        [Row("api", 12, "healthy", 0), Row("placer", 13, "not ready", 0, "NATS is not connected (for 41s)")]
    )
    assert lines[-2:] == ["", "placer is not ready: NATS is not connected (for 41s)"]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """As every program says it."""
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"flexinfer {version('flexinfer')}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And the options of each."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "simulate-gpus" in script


def test_bash_completes_an_option_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The script is run by bash."""
    main(["completion", "bash"])
    words = "COMP_WORDS=(flexinfer up --det); COMP_CWORD=2; _shtab_flexinfer; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"{capsys.readouterr().out}\n{words}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "--detach\n"


@pytest.mark.parametrize("command", ["up", "down", "services", "env", "gpus"])
def test_a_state_folder_that_cannot_be_used_is_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: the folder, why, and the option."""
    (tmp_path / "file").touch()
    assert main([command, "--state", str(tmp_path / "file")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be used as state folder" in line
    assert "--state" in line


def test_up_in_the_background_says_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before it starts anything."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["up", "--detach", "--state", str(folder)]) == 1
        assert "choose another one with --state" in capsys.readouterr().err


def test_a_setting_that_up_would_drop_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, before it starts anything."""
    monkeypatch.setenv("FLEXINFER_NATS_URL", "nats://elsewhere:4222")
    assert main(["up", "--detach", "--state", str(tmp_path)]) == 1
    assert "FLEXINFER_NATS_URL is set by `flexinfer up` itself" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_down_where_nothing_runs_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is what the user wanted."""
    provisioning.write_files(instances.ensure(tmp_path))
    assert main(["down", "--state", str(tmp_path)]) == 0
    assert "nothing" in capsys.readouterr().out


def test_run_lists_the_components(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error gets the list."""
    assert main(["run", "placr"]) == 1
    assert "unknown component 'placr'" in capsys.readouterr().err


def test_tap_without_nats_says_where_it_looked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address without the password."""
    monkeypatch.setenv("NATS_URL", "nats://tap:hidden@127.0.0.1:9")
    assert main(["tap"]) == 1
    told = capsys.readouterr().err
    assert "127.0.0.1:9 does not answer" in told
    assert "hidden" not in told


def test_no_command_prints_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer types the name alone."""
    assert main([]) == 2
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each loads, and explains itself."""
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert "usage: flexinfer" in capsys.readouterr().out


def test_as_a_plugin_it_calls_itself_as_the_user_did() -> None:
    """`kubectl flexinfer why x` finds the program kubectl-flexinfer."""
    assert program_name("/x/kubectl-flexinfer") == "kubectl flexinfer"
    assert program_name("/x/flexinfer") == "flexinfer"


def test_the_light_commands_load_no_client_of_nats_or_kubernetes() -> None:
    """`env` answers at once, and the supervisor stays small."""
    code = "import sys; import flexinfer.cli.up; print([m for m in ('nats', 'aiohttp') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
