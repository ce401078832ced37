"""The agent: CPU and memory of one that samples two NVIDIA cards each second, with processes on them whose memory moves.

The real bindings run over the tests' stub of NVIDIA's library, so what the driver itself costs is not in it. An AMD card is read from a
tree of /sys in this process, with the /proc of this machine: the time of one sample, taken once a second.

On two busy cores: 0.2 to 0.5 % of a core; 21 MiB of PSS beside other processes of the same Python, 29 where nothing else maps Python and OpenSSL, 31.5 if libc and libm
are its own too. Of these 20.5 are anonymous: 10 Python with asyncio and TLS, 2.4 NVIDIA's bindings, 2 nats-py, 1.7 http.client. With aiohttp, which asks the API server for
all other components and which nats-py imports where it is installed, it was 7.4 more. 1 to 5 ms for two AMD cards.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.footprint import anonymous, files_once, pss
from flexinfer.agent.processes import ProcessTable
from flexinfer.agent.vendors.amd import Tree
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_writer import StateStream
from tests.machines import MI50, RX_7900_XTX, Sys
from tests.nats import NatsServer
from tests.nvml import GTX_980_TI, RTX_3090, Card, Machine, Process, Step

CPU_GOAL, MEMORY_GOAL = 0.005, 30
"""Of a core, and MiB of PSS."""
SETTLED_SECONDS, SECONDS = 5.0, 30.0
PROBES = 200
_KUBECONFIG = {
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
}
"""As `flexinfer up` writes it, in JSON: no YAML is read, as in a Pod."""


def steps() -> list[Step]:
    """Return samples whose memory differs by more than what is published at once; the last one stays."""
    return [Step(tuple(_busy(card, 100 * number) for card in (GTX_980_TI, RTX_3090))) for number in range(16)]


def _busy(card: Card, used_mb: int) -> Card:
    """Return a card that processes of this machine use."""
    processes = tuple(Process(pid, used_mb) for pid in (os.getpid(), os.getppid()))
    return msgspec.structs.replace(card, used_mb=2 * used_mb, processes=processes)


async def measured(folder: Path) -> tuple[float, float, float]:
    """Return the share of a core of an agent that has settled, the MiB of its PSS, and its MiB where nothing else maps its files."""
    server = NatsServer(folder)
    await server.start()
    (folder / "kubeconfig").write_bytes(msgspec.json.encode(_KUBECONFIG))
    environment = Machine(folder).play(steps()) | {
        "FLEXINFER_NATS_URL": server.url,
        "FLEXINFER_NODE_NAME": "benchmark",
        "FLEXINFER_KUBECONFIG": str(folder / "kubeconfig"),
    }
    # With it the agent would compile all modules at its start, and keep that memory.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        [sys.executable, "-c", "import flexinfer.agent.__main__, pynvml"], env=environment, check=True
    )
    async with connection.connected("watcher", server.url, "", "") as link:
        await StateStream(link, link).open()
    agent = subprocess.Popen([sys.executable, "-m", "flexinfer.agent"], env=environment)
    try:
        await asyncio.sleep(SETTLED_SECONDS)
        before = _cpu(agent.pid)
        await asyncio.sleep(SECONDS)
        return (
            (_cpu(agent.pid) - before) / SECONDS,
            pss(agent.pid),
            anonymous(agent.pid) + files_once([agent.pid]),
        )
    finally:
        agent.terminate()
        agent.wait()
        await server.stop()


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def amd_seconds(root: Path) -> float:
    """Return the CPU seconds of one sample of two AMD cards."""
    tree = Sys(root)
    for gpu in (RX_7900_XTX, MI50):
        tree.add(gpu)
        tree.compute(gpu, os.getpid(), 1000)
    reader = Tree(ProcessTable(), root)
    began = time.process_time()
    for _ in range(PROBES):
        reader.probe()
    return (time.process_time() - began) / PROBES


def main() -> None:
    """Print what the agent costs, and the goals."""
    with tempfile.TemporaryDirectory() as folder:
        share, memory, alone = asyncio.run(measured(Path(folder)))
        amd = amd_seconds(Path(folder) / "sys")
    print(
        f"two NVIDIA cards: {share:.2%} of a core, goal {CPU_GOAL:.1%} ({'met' if share <= CPU_GOAL else 'missed'}); "
        f"{memory:.1f} MiB of PSS ({alone:.1f} if all its files were its own), goal {MEMORY_GOAL} MiB ({'met' if memory <= MEMORY_GOAL else 'missed'})"
    )
    print(
        f"two AMD cards: {amd * 1000:.2f} ms a sample, {amd:.2%} of a core, goal {CPU_GOAL:.1%} ({'met' if amd <= CPU_GOAL else 'missed'})"
    )


if __name__ == "__main__":
    main()
