"""A port of this machine that leads to a Service of a cluster: `kubectl port-forward` as a child process.

kubectl chooses the port, so no other program can take it meanwhile, and knows every way to authenticate that a kubeconfig names. The
child ends with the block, also when a signal ends this process.
"""

import contextlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO

from flexinfer.api.conditions import one_line
from flexinfer.api.installation import CLIENT_ROLE, SYSTEM_NAMESPACE
from flexinfer.cli.errors import CommandError

HOST = "127.0.0.1"
_FORWARDING = re.compile(rf"Forwarding from {re.escape(HOST)}:(\d+) -> ".encode())
_START_SECONDS, _STOP_SECONDS = 30.0, 5.0
_SETTLE_SECONDS = 0.5
"""A connection breaks this long before kubectl has ended, at most."""
_PREFIX = re.compile(r"^(?:error: |Error from server \(\w+\): )+")
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


class PortForward:
    """A `kubectl port-forward` that runs; `port` is its port on HOST."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors
        self._ports: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = self._first_port()

    def _read(self) -> None:
        """Read what kubectl prints, a line for each connection: it would stop at a full pipe."""
        for line in self._process.stdout or ():
            if match := _FORWARDING.match(line):
                self._ports.put(int(match[1]))
        self._ports.put(0)

    def _first_port(self) -> int:
        with contextlib.suppress(queue.Empty):
            return self._ports.get(timeout=_START_SECONDS)
        return 0

    @property
    def ended(self) -> bool:
        """Whether kubectl has ended."""
        return not self._reader.is_alive()

    def ended_by(self, seconds: float) -> bool:
        """Return whether kubectl has ended, at the latest so many seconds from now."""
        self._reader.join(seconds)
        return self.ended

    @property
    def cause(self) -> str:
        """What kubectl says of its end, in one line."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if not lines:
            return "kubectl says nothing" if self.ended else f"no answer within {_START_SECONDS:g}s"
        return one_line(_PREFIX.sub("", lines[-1]))

    def stop(self) -> None:
        """End kubectl."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()


def command(service: str, port: str, *, context: str, kubeconfig: str) -> list[str]:
    """Return the command line of a port-forward to the named port of a Service, at a free port of this machine."""
    target = (f"service/{service}", f":{port}")
    return [
        "kubectl",
        f"--kubeconfig={kubeconfig}" if kubeconfig else "",
        f"--context={context}",
        f"--namespace={SYSTEM_NAMESPACE}",
        "port-forward",
        f"--address={HOST}",
        "--pod-running-timeout=10s",
        *target,
    ]


@contextlib.contextmanager
def opened(words: Sequence[str], service: str, context: str) -> Iterator[PortForward]:
    """Run a port-forward until the block ends. Raises CommandError if none can be made, or if the block failed and it has ended."""
    with tempfile.TemporaryFile() as errors, _started(words, errors) as forward:
        if not forward.port:
            raise CommandError(_failed(forward, service, context))
        try:
            yield forward
        except CommandError as error:
            if not forward.ended_by(_SETTLE_SECONDS):
                raise
            raise CommandError(lost(forward, service, context)) from error


@contextlib.contextmanager
def _started(words: Sequence[str], errors: IO[bytes]) -> Iterator[PortForward]:
    try:
        process = subprocess.Popen(
            [word for word in words if word],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    except FileNotFoundError as error:
        raise CommandError(
            "kubectl is not on PATH, and --context needs it for a port-forward; install it: https://kubernetes.io/docs/tasks/tools/"
        ) from error
    with process, _ended_by_signals():
        forward = PortForward(process, errors)
        try:
            yield forward
        finally:
            forward.stop()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a signal that asks this process to end run what ends the child first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _exit) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _failed(forward: PortForward, service: str, context: str) -> str:
    cause = forward.cause
    if "forbidden" in cause.lower():
        remedy = f"an administrator of the cluster can bind the Role {CLIENT_ROLE} to this user"
    else:
        remedy = f"`kubectl --context {context} -n {SYSTEM_NAMESPACE} get pods` shows what runs there"
    return f"no port-forward to Service {service} of context {context}: {cause}; {remedy}"


def lost(forward: PortForward, service: str, context: str) -> str:
    """Return the sentence for a port-forward that has ended by itself."""
    return f"the port-forward to Service {service} of context {context} has ended: {forward.cause}; run the command again"
