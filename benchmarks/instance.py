"""A separate instance for a benchmark or a test; its `llama-server` is the stub engine by default."""

import contextlib
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flexinfer.api.services import SERVICES
from tests.patience import patient

BIN = Path(sys.executable).parent
STOPPED = 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Stopped'
"""For `until`: scaled to zero, the engine's Pod deleted."""
PROCESSES = ("controllers", *SERVICES)
"""The processes of the components: one for all controllers, or with `--separate` one each."""


class Instance:
    """A running instance: its state folder, its environment, and the log of the stub engines."""

    def __init__(self, folder: Path, *options: str, stub: bool = True) -> None:
        self.folder = folder
        self.log = folder / "stub.log"
        self.log.touch()
        self._suspended = False
        self.environment = os.environ | {"FLEXINFER_STATE": str(folder / "state")}
        # With it every process would compile all modules at its start and keep that memory.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if stub:
            self.environment |= self._stubbed()
        self._flexinfer("up", "--detach", *options)
        exports = self._flexinfer("env")
        for word in shlex.split(exports.replace("export ", " ")):
            name, _, value = word.partition("=")
            if value:
                self.environment[name] = value

    def _stubbed(self) -> dict[str, str]:
        programs = self.folder / "programs"
        programs.mkdir()
        stub = programs / "llama-server"
        engine = Path(__file__).with_name("stub_engine.py")
        # A container does not get the node's environment: the start script sets the path of the log.
        stub.write_text(f'#!/bin/sh\nSTUB_LOG={self.log} exec {sys.executable} -S -E {engine} "$@"\n')
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        return {"PATH": f"{programs}:{os.environ['PATH']}"}

    def _flexinfer(self, *arguments: str, failures: tuple[int, ...] = ()) -> str:
        command = [str(BIN / "flexinfer"), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode and done.returncode not in failures:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl on the instance and return its output. Raises subprocess.CalledProcessError."""
        command = [str(BIN / "kubectl"), *arguments]
        try:
            return subprocess.run(
                command, env=self.environment, input=stdin, capture_output=True, text=True, check=True
            ).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    def apply(self, *names: str, idle: str = "1h") -> None:
        """Apply Models that the stub engine serves."""
        items = [
            {
                "apiVersion": "ai.flexinfer/v1alpha2",
                "kind": "Model",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "backend": "llamacpp",
                    "source": "pvc://models/smollm2.gguf",
                    "serverless": {"idleTimeout": idle},
                },
            }
            for name in names
        ]
        self.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        )

    def ask(self, model: str) -> None:
        """Send one request to a Model and wait for the whole response. Raises SystemExit if it fails."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        request = urllib.request.Request(
            f"{self.environment['OPENAI_BASE_URL']}/chat/completions",
            json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self.environment['OPENAI_API_KEY']}",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=patient(120)) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{model}: HTTP {error.code}: {error.read().decode()}") from error

    def stubs(self, skip: int = 0) -> list[tuple[str, float]]:
        """Return event and time of each line of the stub engines' log after line `skip`."""
        lines = self.log.read_text().splitlines()[skip:]
        return [(line.split()[0], float(line.split()[1])) for line in lines]

    def services(self) -> list[dict[str, Any]]:
        """Return the processes of the instance."""
        rows: Any = json.loads(self._flexinfer("services", "-o", "json", failures=(1,)))
        return rows if isinstance(rows, list) else list(rows.get("services", []))

    def until(self, model: str, condition: str, seconds: int = 60) -> None:
        """Run `kubectl wait` for a condition such as `condition=Ready` or `jsonpath={.status.phase}=Idle`, for several times `seconds`."""
        self.kubectl("wait", f"--for={condition}", f"mdl/{model}", f"--timeout={patient(seconds):g}s")

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor, `flexinfer up` itself, which holds the lock of the folder."""
        return int((self.folder / "state" / "lock").read_text())

    def end_services(self) -> None:
        """Kill all components and prevent their restart; API server, node and NATS keep running."""
        os.kill(self.supervisor, signal.SIGSTOP)
        self._suspended = True
        for service in self.services():
            if service["name"] in PROCESSES and service["pid"]:
                os.kill(int(service["pid"]), signal.SIGKILL)

    def start_services(self) -> None:
        """Let the supervisor start what `end_services` killed."""
        os.kill(self.supervisor, signal.SIGCONT)
        self._suspended = False

    def down(self) -> None:
        """Stop everything."""
        if self._suspended:
            os.kill(self.supervisor, signal.SIGCONT)
        self._flexinfer("down")


@contextlib.contextmanager
def instance(*options: str) -> Iterator[Instance]:
    """Run an instance for the duration of the block."""
    with tempfile.TemporaryDirectory(prefix="flexinfer-bench-") as folder:
        running = Instance(Path(folder), *options)
        try:
            yield running
        finally:
            running.down()


def bare_spawn(log: Path) -> float:
    """Return the seconds from the spawn of the stub engine to the first line of its log."""
    engine = Path(__file__).with_name("stub_engine.py")
    log.write_text("")
    spawned = time.monotonic()
    command = [sys.executable, "-S", "-E", str(engine), "--port", "0"]
    process = subprocess.Popen(command, env=os.environ | {"STUB_LOG": str(log)})
    try:
        while not log.read_text().endswith("\n"):
            time.sleep(0.001)
        return float(log.read_text().split()[1]) - spawned
    finally:
        process.kill()
        process.wait()
