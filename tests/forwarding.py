"""A program `kubectl` whose port-forwards lead to servers of this machine: the local API runs no Pods that it could forward to.

It understands what the command line of FlexInfer sends, ends as kubectl does when its Pod is gone, and leaves a note of each run.
"""

import json
import sys
from pathlib import Path

_PROGRAM = """#!{python}
import asyncio, contextlib, json, os, pathlib, sys

FOLDER = pathlib.Path(__file__).parent
service = next(word for word in sys.argv if word.startswith("service/"))


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main():
    plan = json.loads((FOLDER / "plan.json").read_text()).get(service)
    (FOLDER / "runs").open("a").write(json.dumps({{"pid": os.getpid(), "words": sys.argv[1:]}}) + "\\n")
    if isinstance(plan, str):
        sys.exit(plan)

    async def relay(reader, writer):
        print("Handling connection for 8080", flush=True)
        near, far = await asyncio.open_connection("127.0.0.1", plan)
        await asyncio.gather(copy(reader, far), copy(near, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"Forwarding from 127.0.0.1:{{port}} -> 8080", flush=True)
    while not (FOLDER / "gone").exists():
        await asyncio.sleep(0.05)
    sys.stderr.write("error: lost connection to pod\\n")
    os._exit(1)


asyncio.run(main())
"""


class Kubectl:
    """The program, to be put first on PATH; `plan` says where a Service's port leads, or with what words it is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        program = folder / "kubectl"
        program.write_text(_PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        self.plan({})

    def plan(self, targets: dict[str, int | str]) -> None:
        """Set port or refusal of each Service."""
        named = {f"service/{name}": target for name, target in targets.items()}
        (self.folder / "plan.json").write_text(json.dumps(named))

    def lose_the_pod(self) -> None:
        """End every port-forward, as kubectl does when its Pod is gone."""
        (self.folder / "gone").touch()

    @property
    def runs(self) -> list[dict[str, object]]:
        """Pid and words of each run."""
        notes = self.folder / "runs"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    @property
    def left(self) -> list[int]:
        """The pids of the runs that have not ended; one that nothing has reaped has."""
        return [pid for run in self.runs if _runs(pid := int(str(run["pid"])))]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
