"""Probes: startup, readiness and liveness, at their periods and thresholds; kubelet's prober. No gRPC probes.

`ProbeResults` is the state machine and reads no clock; `follow` probes and waits.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from localkube.kubelet.client import Object

Prober = Callable[[], Awaitable[str]]
"""Probes once; returns an empty string on success, else the reason of the failure."""
_FIRST_FAILURE = 400
_KEPT_OUTPUT = 200


class Timing(msgspec.Struct, frozen=True, rename="camel"):
    """Period, timeout and thresholds of a probe; Kubernetes' names and defaults, in seconds."""

    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class ProbeResults:
    """Results in a row. `healthy` is None until one of the thresholds was reached."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._good = True
        self._row = 0
        self.healthy: bool | None = None

    def count(self, *, good: bool) -> bool:
        """Count a result; returns whether its threshold is reached, also if `healthy` does not change."""
        self._row = self._row + 1 if good == self._good else 1
        self._good = good
        enough = self._timing.success_threshold if good else self._timing.failure_threshold
        if self._row >= enough:
            self.healthy = good
            return True
        return False


class Target(msgspec.Struct, frozen=True):
    """What is probed: the Pod's address, the container's named ports, and how to run a command like its process."""

    address: str
    ports: Mapping[str, int]
    environment: Mapping[str, str]
    directory: str
    translate: Callable[[str], str]


def timing(probe: Object) -> Timing:
    """Return a probe's timing; absent and zero fields get their defaults."""
    fields = {key: probe[key] for key in Timing.__struct_encode_fields__ if probe.get(key)}
    return msgspec.convert(fields, Timing)


async def follow(
    probe: Object,
    prober: Prober,
    on_result: Callable[[bool], Awaitable[bool]],
    on_failure: Callable[[str], None],
) -> None:
    """Probe at the probe's period.

    `on_failure` is called for each failure, `on_result` whenever a threshold is reached; it returns True to end the probing.
    """
    times = timing(probe)
    results = ProbeResults(times)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(times.initial_delay_seconds)
    due = loop.time()
    while True:
        wrong = await _within(prober, times.timeout_seconds)
        if wrong:
            on_failure(wrong)
        if results.count(good=not wrong) and await on_result(not wrong):
            return
        due = max(due + times.period_seconds, loop.time())
        await asyncio.sleep(due - loop.time())


async def _within(prober: Prober, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            return await prober()
    except TimeoutError:
        return f"no answer within {seconds:g}s"


def prober_of(probe: Object, target: Target, session: aiohttp.ClientSession) -> Prober:
    """Return the prober of a probe or hook. Raises ValueError for a kind that is not supported."""
    if "httpGet" in probe:
        return lambda: http_get(probe["httpGet"], target, session)
    if "tcpSocket" in probe:
        return lambda: _tcp_socket(probe["tcpSocket"], target)
    if "exec" in probe:
        return lambda: run(probe["exec"]["command"], target)
    raise ValueError("the local node offers httpGet, tcpSocket and exec probes")


async def http_get(action: Object, target: Target, session: aiohttp.ClientSession) -> str:
    """Send a GET: any status from 200 to 399 is a success."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.address
    url = f"{scheme}://{host}:{_port(action['port'], target)}/{str(action.get('path') or '/').lstrip('/')}"
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders") or ()}
    verified = scheme != "https"  # kubelet does not verify either
    try:
        async with session.get(url, headers=headers, ssl=verified, allow_redirects=False) as response:
            if response.status < _FIRST_FAILURE:
                return ""
            return f"HTTP probe failed with statuscode: {response.status}"
    except (aiohttp.ClientError, OSError) as error:
        return f'Get "{url}": {str(error) or type(error).__name__}'


async def _tcp_socket(action: Object, target: Target) -> str:
    host, port = action.get("host") or target.address, _port(action["port"], target)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return f"dial tcp {host}:{port}: {error.strerror or error}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""


async def run(command: list[str], target: Target) -> str:
    """Run a command like the container's process: exit code 0 is a success."""
    argv = [target.translate(word) for word in command]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(target.environment),
            cwd=target.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    try:
        output, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    if process.returncode == 0:
        return ""
    return output[:_KEPT_OUTPUT].decode(errors="replace").strip() or f"exit code {process.returncode}"


def ports_of(container: Object) -> dict[str, int]:
    """Return a container's named ports."""
    return {
        port["name"]: int(port["containerPort"]) for port in container.get("ports", ()) if port.get("name")
    }


def _port(port: Any, target: Target) -> int:
    return target.ports[port] if isinstance(port, str) and port in target.ports else int(port)
