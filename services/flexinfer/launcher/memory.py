"""What the launcher remembers beside the observed state: the last answer of each engine, and Pods as it read them itself. Pure."""

from collections.abc import Mapping

import msgspec

from flexinfer.api.model import Model
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.manifests import pod_name
from flexinfer.state.observed import ObservedState


class EngineProbed(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine answered, or what the launcher's own read of its Pod returned.

    `key` and `uid` are the Model's. `pod` is the Pod as the API server returned it to the launcher, which may be newer than the observed state;
    `gone` means that the API server no longer has that Pod. `in_flight` is the engine's own number of requests, None if it was not
    asked or does not report one.
    """

    key: str
    uid: str
    pod_uid: str
    healthy: bool
    detail: str = ""
    in_flight: int | None = None
    pod: PodFacts | None = None
    gone: bool = False


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


def remember(memory: Memory, fact: EngineProbed, at: float) -> Memory:
    """Return the memory after an answer."""
    return Memory({**memory.probes, fact.uid: Probe(fact, at)})


def forget(memory: Memory, uid: str) -> Memory:
    """Return the memory without a Model."""
    if uid not in memory.probes:
        return memory
    return Memory({other: probe for other, probe in memory.probes.items() if other != uid})


def pods_of(model: Model, state: ObservedState, memory: Memory) -> tuple[PodFacts, ...]:
    """Return the Model's own engine Pods, oldest first, each as last observed or as last read by the launcher, whichever is newer."""
    own = {
        pod.uid: pod
        for pod in state.workload(model).pods
        if pod.model_uid == model.uid and pod.name == pod_name(model)
    }
    probe = memory.probe(model)
    if probe is not None:
        _merge(own, probe.answer, model)
    return tuple(sorted(own.values(), key=lambda pod: pod.version))


def _merge(own: dict[str, PodFacts], answer: EngineProbed, model: Model) -> None:
    """Add what the launcher itself read last.

    A terminating Pod that the observed state no longer has is not added: it was deleted since, no watch will report it again, and a
    replacement would wait for it without end.
    """
    if answer.gone:
        own.pop(answer.pod_uid, None)
    pod = answer.pod
    if pod is None or pod.model_uid != model.uid:
        return
    observed = own.get(pod.uid)
    if observed is not None:
        newer = pod.version > observed.version
    else:
        newest = max((other.version for other in own.values()), default=0)
        newer = pod.version > newest and not pod.deleting
    if newer:
        own[pod.uid] = pod
