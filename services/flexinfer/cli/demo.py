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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flexinfer.cli import down, why
from flexinfer.cli.chat import SYSTEM, Door
from flexinfer.cli.errors import CommandError
from flexinfer.cli.prepare import built
from flexinfer.cli.stages import ASLEEP, READY, Stages, watched
from flexinfer.cli.tap import kept, reached
from flexinfer.cli.up import EXAMPLE, detached
from flexinfer.local import instance as instances
from flexinfer.local.instance import Instance, InstanceError

MODEL, NAMESPACE = "smollm2", "default"
QUESTION, TRUTH = "What is the capital of France?", "paris"
IDLE_TIMEOUT = "5s"
_READY_SECONDS, _ASLEEP_SECONDS, _KUBECTL_SECONDS, _SEEN_SECONDS = 120, 90, 150, 30
_SETTLED_SECONDS, _LOOK_SECONDS = 3.0, 0.1
_WATCH = ("get", "mdl", MODEL, "--watch", '-o=jsonpath={.status.phase}{"\\n"}')


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take the Model's file and the API to show it on."""
    parser.add_argument("--file", type=Path, default=EXAMPLE, help=f"the Model to show (default {EXAMPLE})")
    parser.add_argument(
        "--api",
        choices=(instances.LOCAL, instances.REAL),
        default=instances.LOCAL,
        help="which Kubernetes API",
    )


def run(given: argparse.Namespace) -> int:
    """Show the road; any step that fails ends it with a sentence and the reasons that the Model gives."""
    if not given.file.exists():
        raise CommandError(f"{given.file} is not here: run this from the root of the repository")
    with tempfile.TemporaryDirectory(prefix="flexinfer-demo-", ignore_cleanup_errors=True) as folder:
        _road(Path(folder), given.file, given.api)
    return 0


def _road(folder: Path, file: Path, world: str) -> None:
    built(folder, world, print)
    show = Show()
    show.line("starting", f"nats, the {world} API, node and every service, as processes of this user")
    try:
        with contextlib.redirect_stdout(None):
            detached(folder, world=world)
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

    def line(self, word: str, text: str) -> None:
        """Print one stage."""
        with self._lock:
            print(f"{time.monotonic() - self._began:6.1f} s  {word:<9} {text}", flush=True)


class Demo:
    """One walk along the road."""

    def __init__(self, instance: Instance, show: Show) -> None:
        self._show = show
        self._asked = 0.0
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
        stages = Stages(self._tell)
        with watched(self._command(*_WATCH), self._environment(), stages):
            stages.await_word(ASLEEP, _ASLEEP_SECONDS)
            self._asked = time.monotonic()
            self._ask()
            stages.await_word(READY, _SEEN_SECONDS)
        self._history()

    def _tell(self, word: str) -> None:
        """Print a stage as it is reached: before the second question, what led to it; then, how long it took."""
        if self._asked:
            self._show.line(word, f"{time.monotonic() - self._asked:.2f} s after the question")
        elif word == ASLEEP:
            self._show.line(word, f"nobody asked for {IDLE_TIMEOUT}: the engine has stopped")

    def _ask(self) -> None:
        self._show.line("asking", QUESTION)
        began = time.monotonic()
        reply = self._door.ask(
            {
                "model": MODEL,
                "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
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
        deadline = time.monotonic() + _SETTLED_SECONDS
        while not self._settled() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        if self._engine() != former:
            raise CommandError("the change of idleTimeout restarted the engine")
        self._show.line("patched", f"idleTimeout {IDLE_TIMEOUT}; the engine is the same process")

    def _settled(self) -> bool:
        """Tell whether every service has seen the present spec."""
        model = json.loads(self._kubectl("get", "mdl", MODEL, "-o", "json"))
        seen = {condition["observedGeneration"] for condition in model["status"]["conditions"]}
        return seen == {model["metadata"]["generation"]}

    def _engine(self) -> tuple[Any, ...]:
        """Return what tells one engine process from another."""
        pod = json.loads(self._kubectl("get", "pod", f"{MODEL}-0", "-o", "json"))
        container = pod["status"]["containerStatuses"][0]
        started = container.get("state", {}).get("running", {}).get("startedAt")
        return pod["metadata"]["uid"], container.get("containerID"), container.get("restartCount"), started

    def _history(self) -> None:
        async def read() -> list[str]:
            async with reached(self._exports["NATS_URL"]) as link:
                return await kept(link, f"flexinfer.history.{NAMESPACE}.{MODEL}")

        print(f"\nThe history of {MODEL}:")
        print("\n".join(asyncio.run(read())), end="\n\n")

    def _kubectl(self, *words: str) -> str:
        done = subprocess.run(
            self._command(*words),
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_KUBECTL_SECONDS,
        )
        if done.returncode:
            raise CommandError(f"kubectl {' '.join(words[:2])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _command(self, *words: str) -> list[str]:
        return [str(Path(sys.executable).with_name("kubectl")), *words]

    def _environment(self) -> dict[str, str]:
        return os.environ | self._exports
