"""The demo's second Model: its weights come from a hub, which is a program of this machine, and the progress of that is seen.

What is shown is what a user sees: the CACHE column of `kubectl get mdl --watch`, and the lines of `flexinfer tap`.
"""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.cli.errors import CommandError
from flexinfer.cli.stages import followed
from flexinfer.local import hub
from flexinfer.local.hub import Hub
from flexinfer.local.supervisor.provisioning import SMALL_MODEL, small_model
from flexinfer.runtime import settings

MODEL, REPOSITORY = "smollm2-hub", "demo/smollm2"
MANIFEST = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": MODEL},
    "spec": {"backend": "llamacpp", "source": f"HF://{REPOSITORY}", "config": {"ggufFile": SMALL_MODEL}},
}
SECONDS = 16.0
"""How long the hub takes: status.cache is written at most every 10 s, and its column is to be seen moving."""
_COLUMN = re.compile(r"\d+% of [\d.]+ \w+(?:, [\dhms ]+ left)?")
_TAP = re.compile(r"download \[.*")
_NO_PROXY = ("NO_PROXY", "no_proxy")


@contextmanager
def offered() -> Iterator[Hub | None]:
    """Serve the small model, and have the instance that is started in the block download from there; None: it is not installed."""
    path = small_model()
    if path is None:
        yield None
        return
    with (
        hub.served(REPOSITORY, {SMALL_MODEL: path}, path.stat().st_size / SECONDS) as running,
        _environment(running.address),
    ):
        yield running


@contextmanager
def _environment(address: str) -> Iterator[None]:
    """Set what an instance inherits: the address of the hub, which no proxy reaches."""
    previous = {name: os.environ.get(name) for name in (settings.variable("hf_endpoint"), *_NO_PROXY)}
    os.environ[settings.variable("hf_endpoint")] = address
    for name in _NO_PROXY:
        os.environ[name] = ",".join(filter(None, [previous[name], "127.0.0.1"]))
    try:
        yield
    finally:
        for name, value in previous.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


class Seen:
    """What was seen of a download, each text once; `report` gets a word and the text."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self.column: list[str] = []
        self.tap: list[str] = []

    def see_column(self, line: str) -> None:
        """Take a line of `kubectl get mdl --watch`."""
        self._see(self.column, _COLUMN.search(line), "cache")

    def see_tap(self, line: str) -> None:
        """Take a line of `flexinfer tap`."""
        self._see(self.tap, _TAP.search(line), "tap")

    def _see(self, texts: list[str], match: re.Match[str] | None, word: str) -> None:
        with self._lock:
            if match is not None and match[0] not in texts[-1:]:
                texts.append(match[0])
                self._report(word, match[0])

    def check(self) -> None:
        """Raise CommandError unless progress was seen to move in both, with the time that is left."""
        for place, texts in (("kubectl get mdl --watch", self.column), ("flexinfer tap", self.tap)):
            if len(texts) < 2 or not any(" left" in text for text in texts):  # noqa: PLR2004 -- moving
                raise CommandError(f"{place} did not show a download that moves: {texts}")


@contextmanager
def watched(environment: Mapping[str, str], progress: Seen) -> Iterator[None]:
    """See the progress of the Model's download for the length of the block."""
    kubectl = [str(Path(sys.executable).with_name("kubectl")), "get", "mdl", MODEL, "--watch"]
    tap = [sys.executable, "-m", "flexinfer.cli", "tap", f"flexinfer.download.*.{MODEL}"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(followed(kubectl, environment, progress.see_column))
        stack.enter_context(followed(tap, environment, progress.see_tap))
        yield
