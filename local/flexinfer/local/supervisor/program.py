"""Program: one program of an instance, as it is to be kept running. Pure."""

import hashlib
import signal
from collections.abc import Mapping

import msgspec

from flexinfer.local.supervisor.readiness import Probe

MARKER_VARIABLE = "FLEXINFER_PROCESS"
STORES, API, NODE, SERVICES = range(4)
"""Stages: each starts once the one before it answers; they stop in reverse order."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program to keep running.

    `variables` come on top of the user's environment. `down_signal` is how `down` ends it: the node leaves its engines running at a
    SIGTERM, so that it can be replaced, and stops them at a SIGUSR1.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    stage: int = SERVICES
    variables: Mapping[str, str] = {}
    grace: float = 10.0
    down_signal: signal.Signals = signal.SIGTERM

    @property
    def fingerprint(self) -> str:
        """What tells whether a running process was started as it would be today."""
        told = msgspec.json.encode([self.argv, dict(self.variables)], order="deterministic")
        return hashlib.sha256(told).hexdigest()[:16]

    def environment(self, inherited: Mapping[str, str], instance: str) -> dict[str, str]:
        """Return the whole environment: the user's without any FlexInfer setting, ours, and a marker to be found by."""
        kept = {key: value for key, value in inherited.items() if not key.startswith("FLEXINFER_")}
        return kept | dict(self.variables) | {MARKER_VARIABLE: self.marker(instance)}

    def marker(self, instance: str) -> str:
        """Return what its environment says of it."""
        return f"{instance}/{self.name}/{self.fingerprint}"
