"""`flexinfer demo`: the whole road on this machine, in a folder of its own: apply, answer, sleep, wake, stop.

It uses what a user would use: `flexinfer up`, plain kubectl, the OpenAI wire format. Each stage is one line with its time.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flexinfer.cli import down, why
from flexinfer.cli.chat import Door
from flexinfer.cli.errors import CommandError
from flexinfer.cli.tap import kept, reached
from flexinfer.cli.up import EXAMPLE, detached
from flexinfer.contracts import keys
from flexinfer.local import instance as instances
from flexinfer.local.instance import Instance, InstanceError

MODEL, NAMESPACE = "smollm2", "default"
QUESTION, TRUTH = "What is the capital of France?", "paris"
MANNERS = "You are a helpful assistant."
"""Without it this small model answers in French, and not to the question."""
IDLE_TIMEOUT = "5s"
_READY_SECONDS, _ASLEEP_SECONDS, _KUBECTL_SECONDS = 120, 90, 150
_WORDS: Mapping[str, str] = {
    keys.IDLE: "asleep",
    keys.PENDING: "waking",
    keys.LOADING: "loading",
    keys.PHASE_READY: "ready",
    keys.FAILED: "failed",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take the Model's file."""
    parser.add_argument("--file", type=Path, default=EXAMPLE, help=f"the Model to show (default {EXAMPLE})")


def run(given: argparse.Namespace) -> int:
    """Show the road; any step that fails ends it with a sentence and the reasons that the Model gives."""
    if not given.file.exists():
        raise CommandError(f"{given.file} is not here: run this from the root of the repository")
    with tempfile.TemporaryDirectory(prefix="flexinfer-demo-", ignore_cleanup_errors=True) as folder:
        _road(Path(folder), given.file)
    return 0


def _road(folder: Path, file: Path) -> None:
    show = Show()
    show.line("starting", "nats, api, node and every service, as processes of this user")
    try:
        with contextlib.redirect_stdout(None):
            detached(folder, one_process=False)
        instance = instances.load(folder)
        show.line("started", "everything answers")
        with _excused(instance):
            Demo(instance, show).walk(file)
    finally:
        with contextlib.redirect_stdout(None), contextlib.suppress(InstanceError):
            down.run(argparse.Namespace(state=str(folder)))
        show.line("stopped", "nothing is left running")


@contextlib.contextmanager
def _excused(instance: Instance) -> Iterator[None]:
    """Add what the Model says of itself to the failure of a step."""
    try:
        yield
    except CommandError as error:
        given = argparse.Namespace(
            kubeconfig=str(instance.kubeconfig), namespace=NAMESPACE, model=MODEL, state=None
        )
        show = io.StringIO()
        try:
            with contextlib.redirect_stdout(show):
                why.run(given)
        except Exception as silent:  # noqa: BLE001 -- whatever keeps it from answering must not hide the failure
            show.write(f"`flexinfer why {MODEL}` does not answer: {silent}")
        raise CommandError(f"{error}\n\n{show.getvalue()}") from error


class Show:
    """Prints stages with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def line(self, word: str, text: str, at: float | None = None) -> None:
        """Print one stage."""
        with self._lock:
            print(f"{(at or time.monotonic()) - self._began:6.1f} s  {word:<9} {text}", flush=True)


class Demo:
    """One walk along the road."""

    def __init__(self, instance: Instance, show: Show) -> None:
        self._show = show
        self._exports = instance.exports()
        self._door = Door(self._exports["OPENAI_BASE_URL"], self._exports["OPENAI_API_KEY"])

    def walk(self, file: Path) -> None:
        """Apply, answer, sleep, wake, and tell the history."""
        self._kubectl("apply", "-f", str(file))
        applied = time.monotonic()
        self._show.line("applied", f"kubectl apply -f {file}")
        self._kubectl("wait", "--for=condition=Ready", f"mdl/{MODEL}", f"--timeout={_READY_SECONDS}s")
        self._show.line("ready", f"{time.monotonic() - applied:.2f} s after it was applied")
        self._ask()
        self._shorten()
        self._kubectl(
            "wait", "--for=jsonpath={.status.phase}=Idle", f"mdl/{MODEL}", f"--timeout={_ASLEEP_SECONDS}s"
        )
        self._show.line("asleep", f"nobody asked for {IDLE_TIMEOUT}: the engine has stopped")
        with self._phases() as seen:
            asked = time.monotonic()
            self._ask()
            self._kubectl("wait", "--for=jsonpath={.status.phase}=Ready", f"mdl/{MODEL}", "--timeout=30s")
        for at, phase in seen:
            self._show.line(_WORDS.get(phase, phase), f"{max(0.0, at - asked):.2f} s after the request", at)
        self._history()

    def _ask(self) -> None:
        self._show.line("asking", QUESTION)
        began = time.monotonic()
        reply = self._door.ask(
            {
                "model": MODEL,
                "messages": [{"role": "system", "content": MANNERS}, {"role": "user", "content": QUESTION}],
                "temperature": 0,
                "max_tokens": 32,
            }
        )
        text = " ".join(str(reply["choices"][0]["message"]["content"]).split())
        self._show.line("answer", f"{text}  ({time.monotonic() - began:.2f} s)")
        if TRUTH not in text.lower():
            raise CommandError(f"that is not the capital of France: {text!r}")

    def _shorten(self) -> None:
        former = self._engine()
        patch = json.dumps({"spec": {"serverless": {"idleTimeout": IDLE_TIMEOUT}}})
        self._kubectl("patch", "mdl", MODEL, "--type=merge", "-p", patch)
        if self._engine() != former:
            raise CommandError("the change of idleTimeout restarted the engine")
        self._show.line("patched", f"idleTimeout {IDLE_TIMEOUT}; the engine is the same process")

    def _engine(self) -> tuple[Any, ...]:
        """Return what tells one engine process from another."""
        pod = json.loads(self._kubectl("get", "pod", f"{MODEL}-0", "-o", "json"))
        container = pod["status"]["containerStatuses"][0]
        started = container.get("state", {}).get("running", {}).get("startedAt")
        return pod["metadata"]["uid"], container.get("containerID"), container.get("restartCount"), started

    @contextlib.contextmanager
    def _phases(self) -> Iterator[list[tuple[float, str]]]:
        """Collect when the phase changes, as `kubectl get --watch` shows it."""
        seen: list[tuple[float, str]] = []
        template = '-o=jsonpath={.status.phase}{"\\n"}'
        with subprocess.Popen(
            [*self._command(), "get", "mdl", MODEL, "--watch", template],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as watch:

            def read() -> None:
                for line in watch.stdout or ():
                    if not seen or seen[-1][1] != line.strip():
                        seen.append((time.monotonic(), line.strip()))

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            try:
                yield seen
            finally:
                watch.terminate()
                watch.wait()
                reader.join(timeout=5)

    def _history(self) -> None:
        async def read() -> list[str]:
            async with reached(self._exports["NATS_URL"]) as link:
                return await kept(link, f"flexinfer.history.{NAMESPACE}.{MODEL}")

        print(f"\nThe history of {MODEL}:")
        print("\n".join(asyncio.run(read())), end="\n\n")

    def _kubectl(self, *words: str) -> str:
        done = subprocess.run(
            [*self._command(), *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_KUBECTL_SECONDS,
        )
        if done.returncode:
            raise CommandError(f"kubectl {' '.join(words[:2])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("kubectl"))]

    def _environment(self) -> dict[str, str]:
        return os.environ | self._exports
