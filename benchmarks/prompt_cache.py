"""Time to the first token of a long prompt after a swap, with the prompt cache kept and without.

Two engines of the small model take turns on one machine, as two Models on one card do: the first answers a prompt, is drained and ended, the second
runs and is ended, and the first is started again and asked the same. What is saved and restored is what the launcher saves and restores.

With xllamacpp 2026.10 on one core of a busy machine, 901 tokens: 11.5 s without; 0.05 s with, and another 0.05 s for saving and restoring.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from flexinfer.api.metadata import Metadata
from flexinfer.api.model import CacheStatus, Model, ModelSpec, ModelStatus
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import prompt_cache
from flexinfer.local.supervisor.provisioning import small_model

HOST = "127.93.8.1"
REPEATS = 60
PROMPT = "The quick brown fox jumps over the lazy dog and writes a long sentence. "
_SECONDS = 60
MODEL = Model(
    metadata=Metadata(name="m", namespace="default", uid="u"),
    spec=ModelSpec(
        backend="llamacpp",
        source="HF://org/m",
        config={"ggufFile": "m.gguf", "keepPromptCacheMB": 1024},
    ),
    status=ModelStatus(cache=CacheStatus(revision="r")),
)
POD = PodFacts(name="m-0", uid="p", ip=HOST, template="t")


def start(folder: Path, weights: Path | None = None) -> "subprocess.Popen[bytes]":
    """Start an engine, by default of the small model, and wait until it is ready. Raises SystemExit if it is not."""
    server = str(Path(sys.executable).with_name("flexinfer-llama-server"))
    words = f"--host {HOST} --port 8080 --alias m --parallel 2 --kv-unified --threads 1 --ctx-size 4096"
    words += f" --slot-save-path {folder} --model {weights or small_model()}"
    engine = subprocess.Popen([server, *words.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://{HOST}:8080/health", timeout=1):
                return engine
        except OSError:
            time.sleep(0.01)
    raise SystemExit("the engine is not ready")


def end(engine: "subprocess.Popen[bytes]") -> None:
    """End it."""
    engine.kill()
    engine.wait()


def first_token(repeats: int) -> float:
    """Return how long the first token of the prompt takes, in seconds."""
    body: dict[str, Any] = {"model": "m", "prompt": PROMPT * repeats, "max_tokens": 1, "temperature": 0}
    began = time.monotonic()
    with urllib.request.urlopen(f"http://{HOST}:8080/v1/completions", json.dumps(body).encode()) as answer:
        answer.read()
    return time.monotonic() - began


def swap(folder: Path, repeats: int, *, keep: bool) -> tuple[float, float]:
    """Return the time to the first token after a swap, and what keeping the cache took, in seconds."""
    engine, spent = start(folder), 0.0
    first_token(repeats)
    if keep:
        began = time.monotonic()
        asyncio.run(prompt_cache.save(MODEL, POD))
        spent = time.monotonic() - began
    end(engine)
    end(start(folder))
    engine = start(folder)
    if keep:
        began = time.monotonic()
        asyncio.run(prompt_cache.restore(MODEL, POD))
        spent += time.monotonic() - began
    seconds = first_token(repeats)
    end(engine)
    return seconds, spent


def main() -> None:
    """Print both, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        without, _ = swap(Path(folder), REPEATS, keep=False)
        kept, spent = swap(Path(folder), REPEATS, keep=True)
    print(
        f"first token after a swap, without: {without:.2f} s; kept: {kept:.2f} s, saving and restoring {spent:.2f} s; ratio {without / kept:.0f}"
    )


if __name__ == "__main__":
    main()
