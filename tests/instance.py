"""A whole instance for tests: `flexinfer up --detach` in a temporary folder, always stopped at the end."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from flexinfer.cli import services
from flexinfer.local.instance import load
from tests.patience import patient

if TYPE_CHECKING:
    import openai

BIN = Path(sys.executable).parent
_INTERVAL = 0.02
"""Seconds between two looks of `until`, at least."""


class Running:
    """A running instance, used as by a user: through the command line and `flexinfer env`."""

    def __init__(
        self,
        state: Path,
        programs: Path | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.state, self._programs, self._variables = state, programs, variables
        self._exported: dict[str, str] = {}
        self._exported_of: tuple[float, ...] = ()

    def flexinfer(self, command: str, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a `flexinfer` command on this instance."""
        return self._run([str(BIN / "flexinfer"), command, "--state", str(self.state), *words], check=check)

    def kubectl(self, *words: str, check: bool = True) -> str:
        """Run kubectl and return its output."""
        return self._run([str(BIN / "kubectl"), *words], check=check).stdout

    def _run(self, words: list[str], *, check: bool) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            words,
            env=self._known_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(150),
        )
        assert done.returncode == 0 or not check, f"{words[1:3]}: {done.stdout}{done.stderr}"
        return done

    def _known_environment(self) -> dict[str, str]:
        """Return the environment as last evaluated, as in a user's shell; again once an instance has written its state again.

        Conditions are looked at in loops: a Python process more for each look would take the core that the instance needs.
        """
        files = [self.state / name for name in ("kubeconfig", "instance.json")]
        written = tuple(file.stat().st_mtime for file in files if file.exists())
        if not written or written != self._exported_of:
            self._exported, self._exported_of = self.environment(), written
        return self._exported

    def environment(self) -> dict[str, str]:
        """Return the environment with the exports of `flexinfer env`, as a shell evaluates them."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEXINFER_")}
        clean |= self._variables
        if self._programs is not None:
            clean["PATH"] = f"{self._programs}:{clean['PATH']}"
        if not (self.state / "kubeconfig").exists():
            return clean
        names = ("KUBECONFIG", "OPENAI_BASE_URL", "OPENAI_API_KEY", "NATS_URL")
        script = (
            'eval "$("$1" env --state "$2")"; for name in $3; do eval "printf \'%s\\n\' \\"\\$$name\\""; done'
        )
        words = ["sh", "-c", script, "sh", str(BIN / "flexinfer"), str(self.state), " ".join(names)]
        done = subprocess.run(words, env=clean, capture_output=True, text=True, check=True)
        return clean | dict(zip(names, done.stdout.splitlines(), strict=True))

    def client(self) -> "openai.OpenAI":
        """Return an OpenAI client of the proxy, which tries once; the caller closes it."""
        import openai  # noqa: PLC0415 -- takes longer to load than most test files to run

        environment = self.environment()
        return openai.OpenAI(
            base_url=environment["OPENAI_BASE_URL"],
            api_key=environment["OPENAI_API_KEY"],
            max_retries=0,
            timeout=patient(120),
        )

    def services(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `flexinfer services` by process name."""
        return processes_of(self.state)

    def pid(self, name: str) -> int | None:
        """Return the pid of a process, or None while it does not run."""
        pid = self.services()[name]["pid"]
        return int(pid) if pid else None


def processes_of(state: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of `flexinfer services` of an instance by process name, without a process for each look."""
    rows = asyncio.run(services.rows(load(state)))
    return {row.name: msgspec.to_builtins(row) for row in rows}


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until a condition holds and return how long that took in seconds.

    Fails when it took several times longer than `seconds`, naming `what`. A look that takes long, as that of a process does, is made
    less often: it would take the core that what is waited for needs.
    """
    limit = patient(seconds)
    began = looked = time.monotonic()
    while not condition():
        now = time.monotonic()
        assert now - began < limit, f"not within {limit:g} s: {what}"
        time.sleep(max(_INTERVAL, now - looked))
        looked = time.monotonic()
    return time.monotonic() - began


@contextlib.contextmanager
def instance(
    state: Path,
    *options: str,
    programs: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Running]:
    """Run an instance for the duration of the block.

    `programs` is a folder of programs that its Pods use in place of those on PATH, `variables` are settings of its components.
    """
    running = Running(state, programs, variables)
    try:
        running.flexinfer("up", "--detach", *options)
        yield running
    finally:
        running.flexinfer("down", check=False)
