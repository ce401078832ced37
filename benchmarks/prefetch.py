"""How fast a download is, and what a kill costs it: beside curl with four ranges at a time, and beside `snapshot_download`, in one run.

All three fetch one file of a hub on loopback, in turns, each as a process of its own. curl is the limit: it verifies nothing and writes no
journal. The CPU seconds are those of the client, start included: they say the same on a busy machine. The goals are 0.8 of curl's rate, and at most the parts in flight (32 MiB) fetched again after SIGKILL at half of the file.

At last, what a start of an engine reads after the page cache of its weights was dropped, with strategy SharedPVC and with Memory: a process maps the
file and touches every page of it, as llama.cpp does. The bytes that came from the disk are the kernel's count. Then the same as the cold start of a real
engine with the small model.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import prompt_cache
from flexinfer.local.supervisor.provisioning import small_model
from flexinfer.prefetcher.keep import absent_of
from tests.instance import until
from tests.integration.prefetcher import page_cache
from tests.integration.prefetcher.hub import GGUF, REPOSITORY, Hub, served
from tests.integration.prefetcher.program import downloaded, environment, started

MIB = 2**20
NAME = "m.gguf"
RANGES = 4
GOAL, MOST_AGAIN = 0.8, 32 * MIB
STRATEGIES = ("SharedPVC", "Memory")
_SNAPSHOT = (
    "import sys, huggingface_hub; huggingface_hub.snapshot_download(sys.argv[1], local_dir=sys.argv[2])"
)

_LOAD = """
import mmap, sys, time
def from_disk(): return int(next(line for line in open("/proc/self/io") if line.startswith("read_bytes")).split()[1])
start, before = time.monotonic(), from_disk()
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages: pages[::mmap.PAGESIZE]
print(time.monotonic() - start, from_disk() - before)
"""


def content(size: int) -> bytes:
    """Return a GGUF file of some size, a multiple of a MiB, whose parts all differ."""
    blocks = b"".join(index.to_bytes(8, "little") * (MIB // 8) for index in range(size // MIB))
    return GGUF + blocks[len(GGUF) :]


def with_curl(hub: Hub, folder: Path) -> None:
    """Fetch the file by four ranges at a time."""
    folder.mkdir(parents=True)
    size = len(hub.files[NAME])
    step = size // RANGES
    ends = [*range(step, size, step)[: RANGES - 1], size]
    running = [
        subprocess.Popen(
            ["curl", "-sf", "-r", f"{end - step if end != size else ends[-2]}-{end - 1}", "-o", str(folder / str(end)), f"{hub.cdn}/{NAME}"]
        )
        for end in ends
    ]  # fmt: skip
    assert [process.wait() for process in running] == [0] * RANGES
    assert sum(path.stat().st_size for path in folder.iterdir()) == size


def with_the_hubs_client(hub: Hub, folder: Path) -> None:
    """Fetch the repository by `snapshot_download`."""
    subprocess.run(_snapshot(folder), env=environment(hub, folder), check=True, capture_output=True)


def with_ours(hub: Hub, folder: Path) -> None:
    """Fetch the repository by the program of the download Job."""
    code, report = downloaded(hub, folder / "one")
    assert code == 0, report


def _snapshot(folder: Path) -> list[str]:
    return [sys.executable, "-c", _SNAPSHOT, REPOSITORY, str(folder)]


WAYS: dict[str, Callable[[Hub, Path], None]] = {
    "curl x4": with_curl,
    "snapshot_download": with_the_hubs_client,
    "FlexInfer": with_ours,
}


class Cost(NamedTuple):
    """What a download took: seconds, and CPU seconds of the client."""

    seconds: float
    cpu: float


def costs(hub: Hub, rounds: int) -> dict[str, Cost]:
    """Return the medians of each way."""
    taken: dict[str, list[Cost]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, fetch in WAYS.items():
            with _folder() as folder:
                start, before = time.monotonic(), _children()
                fetch(hub, folder / "f")
                taken[name].append(Cost(time.monotonic() - start, _children() - before))
    return {
        name: Cost(*(statistics.median(part) for part in zip(*all_, strict=True)))
        for name, all_ in taken.items()
    }


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def again_after_a_kill(hub: Hub, name: str) -> int:
    """Return the bytes that are fetched a second time after SIGKILL at half of the file."""
    size = len(hub.files[NAME])
    with _folder() as folder:
        hub.sent.clear()
        into = folder / "f"
        process = (
            started(hub, into / "one")
            if name == "FlexInfer"
            else subprocess.Popen(_snapshot(into), env=environment(hub, into), stderr=subprocess.DEVNULL)
        )
        hub.wait_sent(size // 2)
        process.kill()
        process.wait()
        WAYS[name](hub, into)
    return sum(hub.sent.values()) - size


class Load(NamedTuple):
    """What it took a process to load a file: seconds, and bytes from the disk."""

    seconds: float
    disk: int


@contextmanager
def dropped(strategy: str, path: Path) -> Iterator[None]:
    """Let the kernel drop a file from the page cache; with Memory, the Job's program has looked at it again then."""
    page_cache.drop(path)
    if strategy == "SharedPVC":
        yield
        return
    program = [sys.executable, "-m", "flexinfer.prefetcher.keep", str(path.parent)]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL) as keeper:
        try:
            until(lambda: absent_of(path) == 0, 120, "the file is kept in memory")
            yield
        finally:
            keeper.kill()


def load_after_a_drop(strategy: str, path: Path) -> Load:
    """Return what mapping a file reads after that, as llama.cpp does."""
    with dropped(strategy, path):
        return _loaded(path)


def cold_start_after_a_drop(strategy: str, path: Path) -> float:
    """Return how long a real engine takes until it is ready after that, in seconds."""
    with dropped(strategy, path):
        began = time.monotonic()
        engine = prompt_cache.start(path.parent, path)
        seconds = time.monotonic() - began
        prompt_cache.end(engine)
    return seconds


def print_cold_starts(rounds: int) -> None:
    """Print the median of each strategy for the small model, and their ratio."""
    model = small_model()
    if model is None:
        print("the small model is not installed: no cold start of an engine")
        return
    with _folder() as folder:
        path = Path(shutil.copy2(model, folder))
        medians = [
            statistics.median(cold_start_after_a_drop(strategy, path) for _ in range(rounds))
            for strategy in STRATEGIES
        ]
    for strategy, seconds in zip(STRATEGIES, medians, strict=True):
        print(f"{strategy:<18} a real llama.cpp with {model.name} is ready after {seconds:5.2f} s")
    print(f"ratio of a cold start with SharedPVC to one with Memory: {medians[0] / medians[1]:.2f}")


def _loaded(path: Path) -> Load:
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)], check=True, capture_output=True, text=True
    )
    seconds, disk = done.stdout.split()
    return Load(float(seconds), int(disk))


def print_loads(size: int, rounds: int) -> None:
    """Print the median of each strategy for a file of `size` MiB."""
    with _folder() as folder:
        path = folder / "weights" / NAME
        path.parent.mkdir()
        path.write_bytes(content(size * MIB))
        for strategy in STRATEGIES:
            loads = [load_after_a_drop(strategy, path) for _ in range(rounds)]
            seconds, disk = (statistics.median(part) for part in zip(*loads, strict=True))
            print(
                f"{strategy:<18} a start after the cache was dropped maps {size:,} MiB in {seconds:5.2f} s, {disk / MIB:7,.0f} MiB of them from the disk"
            )


def refuses_a_flipped_bit(hub: Hub, name: str) -> bool:
    """Return whether a file with one wrong bit is refused."""
    hub.corrupt.add(NAME)
    try:
        with _folder() as folder:
            WAYS[name](hub, folder / "f")
    except (AssertionError, subprocess.CalledProcessError):
        return True
    finally:
        hub.corrupt.clear()
    return False


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main(size: int = 1024, rounds: int = 3) -> None:
    """Print the rates as ratios, and what a kill and a wrong bit do; `size` is in MiB."""
    with served() as hub:
        hub.files = {NAME: content(size * MIB)}
        measured, megabytes = costs(hub, rounds), size * MIB / 1e6
        curl, client = measured["curl x4"], measured["snapshot_download"]
        for name, cost in measured.items():
            print(
                f"{name:<18} {megabytes / cost.seconds:7,.0f} MB/s  {curl.seconds / cost.seconds:5.2f} of curl x4  "
                f"{client.seconds / cost.seconds:5.2f} of snapshot_download  {cost.cpu / megabytes * 1e3:5.2f} CPU seconds a GB"
            )
        for name in ("snapshot_download", "FlexInfer"):
            again = again_after_a_kill(hub, name)
            print(
                f"{name:<18} {again / MIB:7,.1f} MiB fetched again after SIGKILL at half ({again / (size * MIB):.1%})"
            )
        for name in ("snapshot_download", "FlexInfer"):
            told = "refused" if refuses_a_flipped_bit(hub, name) else "TAKEN FOR COMPLETE"
            print(f"{name:<18} a file with one wrong bit is {told}")
    print_loads(size, rounds)
    print_cold_starts(rounds)
    print(f"goals: {GOAL} of curl x4; at most {MOST_AGAIN // MIB} MiB fetched again; a wrong bit refused")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        type=int,
        default=1024,
        help="MiB (default 1024: with less, the start of the process weighs more than the bytes)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
        main(options.size, options.rounds)
