"""`python -m tests.chaos [FAULTS] [SEED]`: a live instance under random faults, with a request every 3 s.

Every process of the instance but its supervisor is killed or suspended at random, and what it made in the API is deleted;
two Models with a short idleTimeout are asked by turns, so that most requests are cold starts. No request may be lost,
except what was in flight in a proxy when it was killed, or in an engine when its Pod was deleted. Exit code 1 if one
was.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.instance import Running, instance

FAULTS, REQUEST_SECONDS, LONGEST_ANSWER = 200, 3.0, 90.0
_PAUSE = (2.0, 6.0)
"""Seconds between two faults, and for how long a process is suspended."""
_DELETIONS = ("service/first", "service/second", "pod/first-0", "pod/second-0")
_BACK_SECONDS = 30.0
"""How long a client tries again while nothing listens: the proxy was killed and is not back yet."""
_MODELS = """
apiVersion: ai.flexinfer/v1alpha2
kind: Model
metadata: {name: %s}
spec:
  backend: llamacpp
  source: pvc://models/smollm2.gguf
  serverless: {idleTimeout: 4s}
"""


class Request(msgspec.Struct):
    """One request: when it began and ended (monotonic seconds), and its outcome."""

    model: str
    began: float
    ended: float = 0.0
    outcome: str = ""


class Client:
    """Asks the Models by turns, each request in a thread of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._url, self._key = environment["OPENAI_BASE_URL"], environment["OPENAI_API_KEY"]
        self._ended = threading.Event()
        self.requests: list[Request] = []
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Ask until `end` is called."""
        while not self._ended.wait(REQUEST_SECONDS):
            request = Request(("first", "second")[len(self.requests) % 2], time.monotonic())
            self.requests.append(request)
            thread = threading.Thread(target=self._ask, args=(request,))
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Ask no more, and wait for the answers."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, request: Request) -> None:
        while True:
            try:
                request.outcome = self._answer(request.model)
            except ConnectionRefusedError:
                if time.monotonic() - request.began < _BACK_SECONDS:
                    time.sleep(0.2)
                    continue
                request.outcome = "connection refused"
            request.ended = time.monotonic()
            return

    def _answer(self, model: str) -> str:
        """Return the outcome of one request. Raises ConnectionRefusedError while nothing listens."""
        body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        message = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(message, timeout=LONGEST_ANSWER) as answer:
                json.load(answer)
                return "200"
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}: {error.read().decode(errors='replace')[:200]}"
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                raise ConnectionRefusedError from error
            return f"{type(error.reason).__name__}: {error.reason}"
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"


class Fault(NamedTuple):
    """A fault and when it was injected: at some time between these two."""

    what: str
    began: float
    ended: float

    def meets(self, request: Request) -> bool:
        """Return whether it may have been injected while a request was in flight."""
        return request.began <= self.ended and self.began <= request.ended


class Faults:
    """The faults of one run, drawn by a seed."""

    def __init__(self, instance: Running, chance: random.Random) -> None:
        self._instance, self._chance = instance, chance
        self.injected: list[Fault] = []

    def inject(self) -> None:
        """Kill or suspend a process, or delete an object."""
        if self._chance.random() < 0.15:
            self._delete(self._chance.choice(_DELETIONS))
            return
        rows = self._instance.services()
        name = self._chance.choice(sorted(rows))
        pid = rows[name]["pid"]
        if not pid:
            self._record(f"{name} is not running")
        elif self._chance.random() < 0.5:
            self._kill(name, int(pid))
        else:
            self._suspend(name, int(pid))

    def _delete(self, target: str) -> None:
        began = time.monotonic()
        self._instance.kubectl("delete", target, "--wait=false", "--ignore-not-found", check=False)
        self._record(f"delete {target}", began)

    def _kill(self, name: str, pid: int) -> None:
        self._record(f"kill {name}")
        _signal(pid, signal.SIGKILL)

    def _suspend(self, name: str, pid: int) -> None:
        _signal(pid, signal.SIGSTOP)
        timer = threading.Timer(self._chance.uniform(*_PAUSE), _signal, (pid, signal.SIGCONT))
        timer.start()
        self._record(f"suspend {name}")

    def _record(self, what: str, began: float | None = None) -> None:
        now = time.monotonic()
        self.injected.append(Fault(what, now if began is None else began, now))


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def lost(requests: list[Request], injected: list[Fault]) -> list[Request]:
    """Return the requests without an answer that no fault excuses: their proxy was not killed, nor their engine."""
    excused = {
        model: [fault for fault in injected if fault.what in ("kill proxy", f"delete pod/{model}-0")]
        for model in ("first", "second")
    }
    return [
        request
        for request in requests
        if request.outcome != "200" and not any(fault.meets(request) for fault in excused[request.model])
    ]


def main() -> int:
    """Run the faults; return 1 if a request was lost."""
    faults_wanted = int(sys.argv[1]) if len(sys.argv) > 1 else FAULTS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    folder = tempfile.TemporaryDirectory(prefix="flexinfer-chaos-")
    with folder as path, instance(Path(path) / "state", "--separate") as running:
        return _run(running, faults_wanted, seed)


def _run(running: Running, faults_wanted: int, seed: int) -> int:
    for name in ("first", "second"):
        environment = running.environment()
        words = [str(Path(sys.executable).parent / "kubectl"), "apply", "-f", "-"]
        subprocess.run(words, input=_MODELS % name, env=environment, text=True, check=True)
        running.kubectl("wait", "--for=condition=Ready", f"mdl/{name}", "--timeout=120s")
    client, faults, chance = (
        Client(running.environment()),
        Faults(running, random.Random(seed)),
        random.Random(-seed),
    )
    asking = threading.Thread(target=client.run)
    asking.start()
    began = time.monotonic()
    while len(faults.injected) < faults_wanted:
        time.sleep(chance.uniform(*_PAUSE))
        faults.inject()
    client.end()
    asking.join()
    return _report(client.requests, faults.injected, began)


def _report(requests: list[Request], injected: list[Fault], began: float) -> int:
    """Print what happened; return 1 if a request was lost."""
    outcomes = Counter(request.outcome[:60] for request in requests)
    slowest = max((r.ended - r.began for r in requests if r.outcome == "200"), default=0.0)
    failed = lost(requests, injected)
    print(
        f"{len(injected)} faults in {time.monotonic() - began:.0f} s: {dict(Counter(fault.what for fault in injected))}"
    )
    print(f"{len(requests)} requests: {dict(outcomes)}; slowest answer {slowest:.1f} s")
    print(f"{len(failed)} lost")
    for request in failed:
        print(
            f"  {request.model} at {request.began - began:.1f} s, {request.ended - request.began:.1f} s: {request.outcome}"
        )
        near = [
            f"{fault.ended - began:.1f} {fault.what}"
            for fault in injected
            if request.began - 20 <= fault.ended <= request.ended
        ]
        print(f"    faults: {', '.join(near)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
