"""The proxy: CPU time of its process a request, for short answers and for streams of 50 events.

The proxy runs as in a cluster, on uvloop, with one Model that is ready; clients and the engine are sockets of this process. Only the proxy's own CPU
time counts, by the kernel's clock of its thread, in the quickest tenth of many short rounds. `--against TREE` measures the proxy of another source
tree too, round by round, and prints the ratio.

On two busy cores: 260 us for a short answer, 350 us for a stream.
"""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from flexinfer.runtime import event_loop
from flexinfer.runtime.clock import monotonic
from flexinfer.runtime.runtime import Snapshot
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import Observation

CONNECTIONS, ROUNDS, REQUESTS, STREAMS = 4, 100, 96, 64
"""As many connections as the Model has slots: no request is queued."""
BODY = b'{"model":"llama","messages":[{"role":"user","content":"hello"}]}'
_JSON = b'{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ready"}}]}'
_EVENT = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
_END = b"0\r\n\r\n"
SHORT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(_JSON)).encode()
    + b"\r\n\r\n"
    + _JSON
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = 50
_PIECES = [b"%x\r\n%s\r\n" % (len(event), event) for event in [_EVENT] * EVENTS + [b"data: [DONE]\n\n"]]
_PORT_SECONDS = 20.0
SHORT_PATH, STREAM_PATH = "/v1/chat/completions", "/v1/completions"


class Proxy(NamedTuple):
    """A running proxy."""

    pid: int
    port: int


class Engine(asyncio.Protocol):
    """Answers each request at once; one whose path is /v1/completions with a stream, an event in each turn of the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport, self._data = cast(asyncio.WriteTransport, transport), b""

    def data_received(self, data: bytes) -> None:
        """Answer a request once all of it is there: its body ends with its last brace."""
        self._data += data
        if not self._data.endswith(b"}"):
            return
        is_stream, self._data = STREAM_PATH.encode() in self._data, b""
        if is_stream:
            self._transport.write(_HEAD)
            self._send(0)
        else:
            self._transport.write(SHORT)

    def _send(self, number: int) -> None:
        if number == len(_PIECES):
            self._transport.write(_END)
        else:
            self._transport.write(_PIECES[number])
            asyncio.get_running_loop().call_soon(self._send, number + 1)


async def client(port: int, path: str, count: int) -> None:
    """Send requests one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: proxy\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    request = head.encode() + BODY
    is_stream = path == STREAM_PATH
    for _ in range(count):
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        await (reader.readuntil(b"\r\n" + _END) if is_stream else reader.readexactly(len(_JSON)))
    writer.close()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process of one thread."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def sample(proxy: Proxy, path: str, count: int) -> float:
    """Return the microseconds of CPU of a proxy a request, over some requests."""
    before = cpu_seconds(proxy.pid)
    await asyncio.gather(*(client(proxy.port, path, count // CONNECTIONS) for _ in range(CONNECTIONS)))
    return (cpu_seconds(proxy.pid) - before) / (count // CONNECTIONS * CONNECTIONS) * 1e6


def quickest(samples: Sequence[float]) -> float:
    """Return the mean of the quickest tenth: other processes only ever add, by what they take of the caches and the core."""
    return statistics.fmean(sorted(samples)[: len(samples) // 10])


async def compare(proxies: Sequence[Proxy], path: str, count: int) -> list[float]:
    """Return the microseconds of CPU a request of each proxy; in every other round the last one is first."""
    samples: dict[Proxy, list[float]] = {proxy: [] for proxy in proxies}
    for number in range(ROUNDS):
        for proxy in proxies if number % 2 else reversed(proxies):
            samples[proxy].append(await sample(proxy, path, count))
    return [quickest(samples[proxy]) for proxy in proxies]


async def serve(address: str, port_file: str) -> None:
    """Run the proxy with one Model that is ready at an address."""
    from flexinfer.events import events  # noqa: PLC0415 -- of the child process alone
    from flexinfer.proxy.__main__ import main  # noqa: PLC0415
    from tests.runtimes import ListBus, a_runtime  # noqa: PLC0415
    from tests.unit.proxy.parts import ScriptedCluster, ready  # noqa: PLC0415

    bus = ListBus()
    observation = Observation(events.ModelObserved(model=ready(address=address)), monotonic())
    bus.queue.put_nowait(Snapshot([observation]))
    settings, cluster = Settings(proxy_port_file=port_file), ScriptedCluster()
    await main(a_runtime("proxy", bus=bus, cluster=cluster, settings=settings, clock=monotonic))


@contextlib.asynccontextmanager
async def started(tree: Path, address: str) -> AsyncIterator[Proxy]:
    """Run the proxy of a source tree before an engine; yields its process and port."""
    roots = ":".join(str(tree / root) for root in ("shared", "services", "local", "."))
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        child = subprocess.Popen(
            [sys.executable, __file__, "--serve", address, str(port_file)],
            env=os.environ | {"PYTHONPATH": roots, "PYTHONSAFEPATH": "1"},
        )
        try:
            deadline = time.monotonic() + _PORT_SECONDS
            while not port_file.exists():
                assert time.monotonic() < deadline, "the proxy has not started"
                await asyncio.sleep(0.05)
            proxy = Proxy(child.pid, int(port_file.read_text()))
            await sample(proxy, SHORT_PATH, REQUESTS)  # its first requests import and compile
            yield proxy
        finally:
            child.kill()
            child.wait()


async def run(other: Path | None) -> None:
    """Measure the proxy of this tree, by turns with that of another one if there is one."""
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    trees = [Path(__file__).resolve().parents[1], *([other] if other else [])]
    async with contextlib.AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(started(tree, address)) for tree in trees]
        for name, path, count in (
            ("short answer", SHORT_PATH, REQUESTS),
            (f"stream of {EVENTS} events", STREAM_PATH, STREAMS),
        ):
            own, *others = await compare(proxies, path, count)
            line = f"{name}: {own:.0f} us of CPU a request"
            if other:
                line += f", {own / others[0]:.3f} of {other}'s"
            print(line, flush=True)


def main() -> None:
    """Measure; `--against TREE` also the proxy of another source tree, round by round."""
    event_loop.install()
    match sys.argv[1:]:
        case ["--serve", address, port_file]:
            asyncio.run(serve(address, port_file))
        case ["--against", tree]:
            asyncio.run(run(Path(tree).resolve()))
        case _:
            asyncio.run(run(None))


if __name__ == "__main__":
    main()
