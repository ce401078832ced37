"""What the launcher remembers beside the observed state: the last answer of each engine, and Pods as it read them itself. Pure."""

from collections.abc import Collection, Mapping

import msgspec

from flexinfer.api.model import Model
from flexinfer.events.workload import PodFacts


class EngineProbed(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine answered.

    `uid` is the Model's. `pod` is the Pod as the API server itself showed it to the launcher, which may be newer than the observed state.
    `in_flight` is the engine's own number of requests, None if it was not asked or does not report one.
    """

    uid: str
    pod_uid: str
    healthy: bool
    detail: str = ""
    in_flight: int | None = None
    pod: PodFacts | None = None


class Probe(msgspec.Struct, frozen=True):
    """The last answer of an engine, and when it came (monotonic seconds)."""

    answer: EngineProbed
    at: float


class Memory(msgspec.Struct, frozen=True):
    """uid of a Model -> the last answer of its engine."""

    probes: Mapping[str, Probe] = {}

    def probe(self, model: Model) -> Probe | None:
        """Return the last answer of a Model's engine."""
        return self.probes.get(model.uid)


def fold(memory: Memory, fact: EngineProbed, at: float) -> Memory:
    """Return the memory after an answer."""
    return Memory({**memory.probes, fact.uid: Probe(fact, at)})


def forget(memory: Memory, uids: Collection[str]) -> Memory:
    """Return the memory without Models other than these."""
    return Memory({uid: probe for uid, probe in memory.probes.items() if uid in uids})
