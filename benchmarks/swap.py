"""Row 12: the overhead of a swap on a shared card = request to answer, without the engines' own stop and start.

Two Models of which one fits take turns on a simulated card that gives memory back at once; each is asked while the other is idle. The engines are
stubs that are ready a random 0.3 to 2.3 s after their start, and note their times. Before each swap the load of the machine is measured for a second
and the same stub is started, waited for and ended without FlexInfer: the ratio is to that. The overhead has three parts: until the old engine is asked
to end, from then until the new engine's process runs, and from its readiness to the answer. The engine ends within a millisecond; the rest of the second
part is the wait until its memory is seen to be back, the steps of the group, and the start of the next Pod. How long each step came after the one before it
is printed as NATS showed them; the agent looks at once when a sample is waited for. The bare spawn, which every way to start an engine takes, is part of
the overhead. Measured elsewhere: llama-swap 57 to 267 ms, which
starts the next engine as soon as the process of the last one is gone; LLMKube 11 s.

Then, with a real engine, the time to the first token of a long prompt after a swap, with the prompt cache kept and without (`benchmarks.prompt_cache`).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import load, prompt_cache, swap_steps
from benchmarks.instance import Instance, bare_spawn, instance

SWAPS = 12
GOAL_SECONDS = 0.200
MODELS = ("one", "two")
_REST_SECONDS, _SPAWNS = 1.0, 5
_CARD = "nodes:\n- {name: local, gpus: [{profile: rtx-3090, releaseDelay: 0s}]}\n"
_API = "ai.flexinfer/v1alpha2"


class Swap(NamedTuple):
    """One swap, in seconds: its three parts, and the engines' own time within it. `bare` is the same stub's start and end without FlexInfer.

    `steps` is when each step came, since the request.
    """

    told: float
    started: float
    answered: float
    engines: float
    bare: float
    busy: float
    steps: Mapping[str, float]

    @property
    def overhead(self) -> float:
        """What it took on top of the engines' own stop and start."""
        return self.told + self.started + self.answered


def main() -> None:
    """Swap two Models by requests, and print the overhead and its parts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SWAPS
    with tempfile.TemporaryDirectory(prefix="flexinfer-bench-card-") as folder:
        card = Path(folder) / "card.yaml"
        card.write_text(_CARD)
        with instance("--simulate-gpus", str(card)) as running:
            running.kubectl("apply", "-f", "-", stdin=objects(MODELS, 14_000))
            for name in MODELS:
                running.until(name, "condition=Cached")
                running.ask(name)
            with swap_steps.heard(swap_steps.at(running.environment["NATS_URL"])) as steps:
                measured = [_swap(running, steps, number) for number in range(count)]
            spawn = statistics.median(bare_spawn(running.folder / "bare.log") for _ in range(_SPAWNS))
    _print(measured, spawn)
    prompt_cache.main()


def objects(names: Sequence[str], memory_mb: int) -> str:
    """Return a shared group without `minStay` and Models in it, each of which needs so much memory."""
    gpu = {"vendor": "nvidia", "shared": "card", "vramEstimateMB": memory_mb}
    spec = {
        "backend": "llamacpp",
        "source": "pvc://models/smollm2.gguf",
        "gpu": gpu,
        "serverless": {"idleTimeout": "1h"},
    }
    group = {
        "apiVersion": _API,
        "kind": "SharedGroup",
        "metadata": {"name": "card"},
        "spec": {"group": "card", "minStay": "0s"},
    }
    models = [
        {"apiVersion": _API, "kind": "Model", "metadata": {"name": name}, "spec": spec} for name in names
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [group, *models]})


def _swap(running: Instance, steps: swap_steps.Steps, number: int) -> Swap:
    """Ask the Model that does not hold the card."""
    name, other = MODELS[number % 2], MODELS[(number + 1) % 2]
    busy = load.rest(_REST_SECONDS)
    bare = bare_turn(running.folder / "bare.log")
    before, requested = len(running.stubs()), time.monotonic()
    running.ask(name)
    answered, times = time.monotonic(), dict(running.stubs(before))
    of_engines = {
        "engine ended": times["ended"],
        "process started": times["started"],
        "engine ready": times["ready"],
    }
    heard = {**steps.times(other, name, requested), **of_engines, "answered": answered}
    return Swap(
        told=times["ended"] - requested,
        started=times["started"] - times["ended"],
        answered=answered - times["ready"],
        engines=times["ready"] - times["started"],
        bare=bare,
        busy=busy,
        steps={step: at - requested for step, at in heard.items()},
    )


def bare_turn(log: Path) -> float:
    """Return the seconds from the spawn of the stub engine until it is ready, and from SIGTERM until it has ended."""
    engine = Path(__file__).with_name("stub_engine.py")
    log.write_text("")
    spawned = time.monotonic()
    command = [sys.executable, "-S", "-E", str(engine), "--port", "0"]
    with subprocess.Popen(command, env=os.environ | {"STUB_LOG": str(log)}) as process:
        while "ready" not in log.read_text():
            time.sleep(0.001)
        started = time.monotonic() - spawned
        told = time.monotonic()
        process.terminate()
        process.wait()
        return started + time.monotonic() - told


def _print(measured: list[Swap], spawn: float) -> None:
    swap_steps.print_steps([swap.steps for swap in measured])
    print(load.summary([swap.busy for swap in measured]))
    overhead = statistics.median(swap.overhead for swap in measured)
    turn = statistics.median(swap.bare for swap in measured)
    ratio = statistics.median((swap.overhead + swap.engines) / swap.engines for swap in measured)
    print(f"{len(measured)} swaps: bare engine's start and end, median {turn * 1000:.0f} ms")
    for what in ("told", "started", "answered"):
        print(
            f"  {what:9} median {statistics.median(getattr(swap, what) for swap in measured) * 1000:5.0f} ms"
        )
    print(f"  of which the bare spawn of the stub takes {spawn * 1000:.0f} ms")
    own = statistics.median(swap.told + swap.answered for swap in measured)
    print(
        f"overhead: median {overhead * 1000:.0f} ms, of which {own * 1000:.0f} ms while an engine is ready and the request waits"
    )
    print(
        f"ratio to the bare start and end {overhead / turn:.2f}; a swap takes {ratio:.1f} times as long as its engines"
    )
    print(f"goal: {GOAL_SECONDS * 1000:.0f} ms ({'met' if overhead <= GOAL_SECONDS else 'missed'})")


if __name__ == "__main__":
    main()
