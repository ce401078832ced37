"""An instance of its own, for a benchmark or a test; its `llama-server` is the stub unless told otherwise."""

import contextlib
import json
import os
import shlex
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

BIN = Path(sys.executable).parent


class Instance:
    """A running FlexInfer: its state folder, its environment, and what the stubs logged."""

    def __init__(self, folder: Path, *options: str, stub: bool = True) -> None:
        self.folder = folder
        self.log = folder / "stub.log"
        self.log.touch()
        self.environment = os.environ | {"FLEXINFER_STATE": str(folder / "state")}
        if stub:
            self.environment |= self._stubbed()
        self._flexinfer("up", "--detach", *options)
        told = self._flexinfer("env")
        for word in shlex.split(told.replace("export ", " ")):
            name, _, value = word.partition("=")
            if value:
                self.environment[name] = value

    def _stubbed(self) -> dict[str, str]:
        programs = self.folder / "programs"
        programs.mkdir()
        stub = programs / "llama-server"
        engine = Path(__file__).with_name("stub_engine.py")
        stub.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {engine} "$@"\n')
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        return {"PATH": f"{programs}:{os.environ['PATH']}", "STUB_LOG": str(self.log)}

    def _flexinfer(self, *arguments: str) -> str:
        command = [str(BIN / "flexinfer"), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl against the instance."""
        command = [str(BIN / "kubectl"), *arguments]
        try:
            return subprocess.run(
                command, env=self.environment, input=stdin, capture_output=True, text=True, check=True
            ).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise

    def apply(self, *names: str, idle: str = "1h") -> None:
        """Apply Models that the stub serves."""
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
        """Ask a Model once and wait for its whole answer."""
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
            with urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{model}: HTTP {error.code}: {error.read().decode()}") from error

    def stubs(self, skip: int = 0) -> list[tuple[str, float]]:
        """Return what the stubs logged since line `skip`."""
        lines = self.log.read_text().splitlines()[skip:]
        return [(line.split()[0], float(line.split()[1])) for line in lines]

    def services(self) -> list[dict[str, Any]]:
        """Return the processes of the instance."""
        found: Any = json.loads(self._flexinfer("services", "-o", "json"))
        return found if isinstance(found, list) else list(found.get("services", []))

    def until(self, model: str, condition: str, seconds: int = 60) -> None:
        """Wait for a condition such as `condition=Ready` or `jsonpath={.status.phase}=Idle`."""
        self.kubectl("wait", f"--for={condition}", f"mdl/{model}", f"--timeout={seconds}s")

    def down(self) -> None:
        """Stop everything."""
        self._flexinfer("down")


@contextlib.contextmanager
def instance(*options: str) -> Iterator[Instance]:
    """Start an instance and stop it afterwards."""
    with tempfile.TemporaryDirectory(prefix="flexinfer-bench-") as folder:
        running = Instance(Path(folder), *options)
        try:
            yield running
        finally:
            running.down()


def bare_spawns(count: int, log: Path) -> list[float]:
    """Return how long the stub takes from being spawned to its first line, in seconds, several times."""
    engine = Path(__file__).with_name("stub_engine.py")
    found = []
    for number in range(count):
        log.write_text("")
        asked = time.monotonic()
        command = [sys.executable, "-S", "-E", str(engine), "--port", str(38700 + number % 100)]
        process = subprocess.Popen(command, env=os.environ | {"STUB_LOG": str(log)})
        while "started" not in log.read_text():
            time.sleep(0.001)
        found.append(float(log.read_text().split()[1]) - asked)
        process.kill()
        process.wait()
    return found
