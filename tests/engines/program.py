"""An engine as the local node would start it: the command line and variables of a Model's Pod, run on an address of its own."""

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from flexinfer import backends
from flexinfer.api.model import Gpu
from flexinfer.api.placement import Placement
from flexinfer.backends import Backend
from flexinfer.backends.base import FILES
from flexinfer.launcher.engine_metrics import in_flight
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.local.images import IMAGES
from localkube.kubelet.termination_message import mount
from localkube.kubelet.variable_expansion import expand
from localkube.kubelet.volume_mounts import Mount, Mounts
from tests.builders import a_model
from tests.engines.installed import vllm
from tests.instance import until
from tests.patience import patient

_hosts = (
    f"127.{128 + os.getpid() // 256 % 64}.{os.getpid() % 256}.{number}" for number in itertools.count(2)
)
"""Addresses of this process alone, outside of the range of Pods, which may have any of that."""
GRACE_SECONDS = 30


class Setup(NamedTuple):
    """How a Model of a backend is set up for its checks; `inside` is a pattern of the path of its weights in the container."""

    config: Mapping[str, Any] = MappingProxyType({})
    variables: Mapping[str, str] = MappingProxyType({})
    gpu: Gpu | None = None
    source: str = "pvc://c/m.gguf"
    inside: str = r"/models/m\.gguf"
    ready_seconds: float = 120


SETUPS: Mapping[str, Setup] = {
    "llamacpp": Setup({"contextSize": 1024, "threads": 1, "parallel": 2}),
    "vllm": Setup(
        {"maxModelLen": 4096, "maxNumSeqs": 4, "enforceEager": True},
        vllm.VARIABLES,
        gpu=Gpu(vendor="nvidia"),
        ready_seconds=600,
    ),
    "ollama": Setup(
        {"contextSize": 1024, "parallel": 2},
        {"LLAMA_ARG_THREADS": "1"},
        source="ollama://tiny:1b",
        inside=r"/models/m/\w+",
    ),
}
"""Backend -> how; others are set up by nothing."""


def _limited(kib: int) -> tuple[str, ...]:
    """Return what a command line begins with whose program may have so much address space."""
    return ("/bin/sh", "-c", f'ulimit -v {kib}; exec "$@"', "sh")


class Program:
    """One engine of a Model `m`; `path` is where its weights are, in place of the claim; `more` are further keys of its config.

    `limit_kib` is how much address space it may have, in KiB; 0: no limit.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        folder: Path,
        *,
        host: str = "",
        extra: tuple[str, ...] = (),
        gpu: Gpu | None = None,
        more: Mapping[str, Any] | None = None,
        limit_kib: int = 0,
    ) -> None:
        backend = backends.find(name)
        assert backend is not None
        self.backend: Backend = backend
        self.host = host or next(_hosts)
        self.log = folder / f"{self.host}.log"
        self.run = folder / self.host
        """Where the local node would keep what belongs to its run: its files, and its termination message."""
        self.setup = SETUPS.get(name, Setup())
        gpu = gpu or self.setup.gpu
        placement = Placement(node="a", vendor=gpu.vendor) if gpu is not None else None
        config = {**self.setup.config, **(more or {})}
        model = a_model(
            "m", backend=name, source=self.setup.source, config=config, gpu=gpu, placement=placement
        )
        self.served = backend.served_name("m", model.spec)
        made = template(model, LaunchSettings())
        assert made is not None
        container = made.spec["containers"][0]
        values = {"POD_IP": self.host}

        def local(word: str) -> str:
            return str(path) if re.fullmatch(self.setup.inside, word) else expand(word, values)

        words = [local(word) for word in container["args"]]
        command = IMAGES.find(container["image"]).command(container.get("command", ()), words)
        self.argv = [*(_limited(limit_kib) if limit_kib else ()), *command, *extra]
        table = Mounts([mount(container, self.run), Mount(FILES, str(self.run))])
        self.files = {self.run / name: table.within(text) for name, text in made.files.items()}
        variables = {v["name"]: table.translate(local(v["value"])) for v in container["env"] if "value" in v}
        self.environment = {**os.environ, **variables, **values, **self.setup.variables}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Program":
        """Start it, without waiting for anything."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir()
        for file, text in self.files.items():
            file.write_text(text)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.argv, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def ready(self) -> "Program":
        """Wait until it answers its health path."""
        until(lambda: self.healthy() or self.ended, self.setup.ready_seconds, "the engine is not ready")
        assert not self.ended, self.last_lines()
        return self

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """Its process."""
        assert self._process is not None
        return self._process

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def code(self, seconds: float = GRACE_SECONDS) -> int:
        """Wait until it has ended; returns its exit code."""
        return self.process.wait(seconds)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to it."""
        if not self.ended:
            self.process.send_signal(number)

    def end(self) -> None:
        """End it and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def left(self) -> list[int]:
        """Return the processes of its session that still run."""
        running = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    running.append(int(entry.name))
        return running

    def last_lines(self) -> str:
        """Return the end of its log, as a user sees it."""
        return self.log.read_text(errors="replace")[-4000:]

    def ask(self, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        """Return code and body of an answer; 0 where there is none."""
        connection = http.client.HTTPConnection(self.host, self.backend.port, timeout=patient(60))
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        try:
            connection.request(
                "GET" if data is None else "POST", path, data, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def healthy(self) -> bool:
        """Return whether its health path answers with success."""
        return 200 <= self.ask(self.backend.health)[0] < 300

    def requests(self) -> int | None:
        """Return how many requests its metrics count in flight."""
        return in_flight(str(self.ask(self.backend.in_flight)[1]), self.backend.in_flight_metrics)

    def stream(self, tokens: int, **fields: Any) -> "Stream":
        """Begin a stream of so many tokens, which does not end sooner."""
        body = {
            "model": self.served,
            "max_tokens": tokens,
            "stream": True,
            "messages": HELLO,
            "ignore_eos": True,
        }
        return Stream(self, "/v1/chat/completions", body | fields)

    @contextlib.contextmanager
    def streaming(self, tokens: int) -> Iterator[None]:
        """Have a request in flight in the block: a stream, and the next one where a fast engine has ended it."""
        leaving = threading.Event()

        def read() -> None:
            while not leaving.is_set():
                with contextlib.closing(self.stream(tokens)) as stream:
                    for _ in stream.events():
                        if leaving.is_set():
                            break

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            leaving.set()
            thread.join()


HELLO = [{"role": "user", "content": "Count from one to one thousand in words."}]


class Stream:
    """A stream that is read event by event."""

    def __init__(self, program: Program, path: str, body: Mapping[str, Any]) -> None:
        self._socket = socket.create_connection((program.host, program.backend.port), timeout=patient(60))
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {program.host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self._socket.sendall(head.encode() + data)
        self._file = self._socket.makefile("rb")

    def events(self, start: str = "data:") -> Iterator[str]:
        """Yield what follows a start in each line that has it, until the engine ends the stream in whatever way; then it is closed."""
        with contextlib.suppress(OSError):
            for line in self._file:
                text = line.decode(errors="replace").strip()
                if text.startswith(start):
                    yield text.removeprefix(start).strip()
                if text.endswith("[DONE]"):
                    break
        self.close()

    def close(self) -> None:
        """Leave, as a client that is no longer interested."""
        self._file.close()
        self._socket.close()


def seconds(began: float) -> float:
    """Return how long ago that was, in seconds."""
    return time.monotonic() - began


Make = Callable[..., Program]
"""What makes a program that is not started; what it takes is that file's own."""
