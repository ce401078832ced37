"""Stages: a Model's phases in the words of a story, told as `kubectl get --watch` shows them."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from flexinfer.api.phase import Phase
from flexinfer.cli.errors import CommandError

ASLEEP, WAKING, READY = "asleep", "waking", "ready"
WORDS: Mapping[str, str] = MappingProxyType(
    {
        Phase.IDLE: ASLEEP,
        Phase.PENDING: WAKING,
        Phase.LOADING: WAKING,
        Phase.PREEMPTED: WAKING,
        Phase.READY: READY,
        Phase.FAILED: "failed",
    }
)


class Stages:
    """What has been seen so far; `tell` is called once for each new word."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._word = ""
        self._changed = threading.Condition()

    def see(self, phase: str) -> None:
        """Note a phase; one that says the same in our words is no change."""
        word = WORDS.get(phase, phase)
        with self._changed:
            if word and word != self._word:
                self._word = word
                self._tell(word)
                self._changed.notify_all()

    def await_word(self, word: str, seconds: float) -> None:
        """Return once that is the stage; CommandError when it takes too long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._word != word:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise CommandError(f"it was not {word} within {seconds:.0f} s")


@contextmanager
def watched(command: Sequence[str], environment: Mapping[str, str], stages: Stages) -> Iterator[None]:
    """Follow what a watching command prints, one phase a line, for the length of the block."""
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as watch:

        def read() -> None:
            for line in watch.stdout or ():
                stages.see(line.strip())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            watch.terminate()
            watch.wait()
            reader.join(timeout=5)
