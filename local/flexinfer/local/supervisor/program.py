"""Program: the specification of one process of an instance. Pure."""

import hashlib
import signal
from collections.abc import Mapping

import msgspec

from flexinfer.local.supervisor.readiness import Probe
from flexinfer.runtime.settings import PREFIX, PROGRAM_PREFIX

MARKER_VARIABLE = "FLEXINFER_PROCESS"
STORES, API, NODE, SERVICES, AGENTS = range(5)
"""Stages: each starts once the programs of the previous one are ready; they stop in reverse order."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program to keep running.

    `variables` are added to the user's environment. `down_signal` is sent by `down`, `grace` seconds before SIGKILL: the node leaves its
    engines running at a SIGTERM, so that it can be replaced, and stops them at a SIGUSR1. Before that `down` stops what `serves` users, and
    sends `rest_signal`, at which a node stops its engines and runs on.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    stage: int = SERVICES
    variables: Mapping[str, str] = {}
    grace: float = 10.0
    down_signal: signal.Signals = signal.SIGTERM
    rest_signal: signal.Signals | None = None
    serves: bool = False

    @property
    def fingerprint(self) -> str:
        """A hash of command line and variables: a running process with another one has to be restarted."""
        content = msgspec.json.encode([self.argv, dict(self.variables)], order="deterministic")
        return hashlib.sha256(content).hexdigest()[:16]

    def environment(self, user_environment: Mapping[str, str], instance: str) -> dict[str, str]:
        """Return the whole environment: the user's, `variables`, and the marker that identifies the process.

        Of the user's FlexInfer settings only those that name the programs of engines are kept.
        """
        base = {
            k: v
            for k, v in user_environment.items()
            if not k.startswith(PREFIX) or k.startswith(PROGRAM_PREFIX)
        }
        return base | dict(self.variables) | {MARKER_VARIABLE: self.marker(instance)}

    def marker(self, instance: str) -> str:
        """Return the value of MARKER_VARIABLE: instance, program and fingerprint."""
        return f"{instance}/{self.name}/{self.fingerprint}"
