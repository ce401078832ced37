"""What the launcher remembers beside the observed state, by uid of a Model. Pure.

The last answer of each engine, Pods as the launcher read them itself, and how often the API server rejected a Pod.
"""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

import msgspec

from flexinfer.api.model import Model
from flexinfer.events.workload import PodFacts
from flexinfer.state.observed import ObservedState

T = TypeVar("T")


class EngineProbed(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine answered, or what the launcher's own read of its Pod returned.

    `key` and `uid` are the Model's. `pod` is the Pod as the API server returned it to the launcher, which may be newer than the observed state;
    `gone` means that the API server no longer has that Pod, which was last at `version`. `in_flight` is the engine's own number of requests, None if it was not
    asked or does not report one. `stage` is what the health endpoint of an engine that loads answered.
    """

    key: str
    uid: str
    pod_uid: str
    healthy: bool
    detail: str = ""
    stage: str = ""
    in_flight: int | None = None
    pod: PodFacts | None = None
    gone: bool = False
    version: int = 0


class Probe(msgspec.Struct, frozen=True):
    """The last answer of an engine, and when it came (monotonic seconds)."""

    answer: EngineProbed
    at: float


class Progress(msgspec.Struct, frozen=True):
    """How far a Pod's engine has loaded, and when it last made progress (monotonic seconds).

    `seen` is what its health endpoint has answered: only an answer that was never given before is progress, and only so many, since what
    alternates or counts must not extend a deadline without end. `device_mb` is the most that its processes were seen to hold of its devices,
    in MiB, which ends with the devices' size.
    """

    pod_uid: str
    seen: frozenset[str]
    at: float
    device_mb: int = 0


_MOST_STAGES = 8


LOADED_MB = 64
"""What an engine must have loaded since it last made progress: an engine that waits holds not quite the same all the time."""


class MemoryLoaded(msgspec.Struct, frozen=True, kw_only=True):
    """The processes of a Pod whose engine loads are seen to hold so much of its devices, in MiB."""

    key: str
    uid: str
    pod_uid: str
    device_mb: int


class CreationRejected(msgspec.Struct, frozen=True, kw_only=True):
    """The API server rejected the Pod or Service of a Model."""

    key: str
    uid: str


class ServiceDrifted(msgspec.Struct, frozen=True, kw_only=True):
    """The Service of a Model is not as it should be."""

    key: str
    uid: str


class ServiceRestored(msgspec.Struct, frozen=True, kw_only=True):
    """It was seen to after that."""

    key: str
    uid: str


class Rejections(msgspec.Struct, frozen=True):
    """How often in a row the API server rejected a Model's Pod, and when it did last (monotonic seconds)."""

    count: int
    at: float


Fact: TypeAlias = EngineProbed | MemoryLoaded | CreationRejected | ServiceDrifted | ServiceRestored


class Memory(msgspec.Struct, frozen=True):
    """uid of a Model -> the last answer of its engine, and the rejections since its last Pod."""

    probes: Mapping[str, Probe] = {}
    rejections: Mapping[str, Rejections] = {}
    drifted: frozenset[str] = frozenset()
    """uids of the Models whose Service is to be restored."""
    progress: Mapping[str, Progress] = {}
    """uid of a Model -> how far its engine said that it has loaded."""

    def probe(self, model: Model) -> Probe | None:
        """Return the last answer of a Model's engine."""
        return self.probes.get(model.uid)


def remember(memory: Memory, fact: Fact, at: float) -> Memory:
    """Return the memory after an answer or a rejection."""
    match fact:
        case EngineProbed(uid=uid):
            probes, rejections = {**memory.probes, uid: Probe(fact, at)}, _without(memory.rejections, uid)
            progress = _progress(memory.progress, fact, at)
            return msgspec.structs.replace(memory, probes=probes, rejections=rejections, progress=progress)
        case MemoryLoaded():
            return msgspec.structs.replace(memory, progress=_loaded(memory.progress, fact, at))
        case CreationRejected(uid=uid):
            previous = memory.rejections.get(uid)
            count = previous.count + 1 if previous is not None else 1
            rejections = {**memory.rejections, uid: Rejections(count, at)}
            return msgspec.structs.replace(memory, rejections=rejections)
        case ServiceDrifted(uid=uid):
            return msgspec.structs.replace(memory, drifted=memory.drifted | {uid})
        case ServiceRestored(uid=uid):
            return msgspec.structs.replace(memory, drifted=memory.drifted - {uid})


def forget(memory: Memory, uid: str) -> Memory:
    """Return the memory without a Model."""
    return Memory(
        _without(memory.probes, uid),
        _without(memory.rejections, uid),
        memory.drifted - {uid},
        _without(memory.progress, uid),
    )


def _progress(previous: Mapping[str, Progress], answer: EngineProbed, at: float) -> Mapping[str, Progress]:
    """Return how far engines have loaded after another answer; of one that serves, or whose Pod is gone, nothing is kept."""
    if answer.healthy or answer.gone:
        return _without(previous, answer.uid)
    last = previous.get(answer.uid)
    stages = last.seen if last is not None and last.pod_uid == answer.pod_uid else frozenset[str]()
    if not answer.stage or answer.stage in stages or len(stages) >= _MOST_STAGES:
        return previous
    device_mb = last.device_mb if last is not None and last.pod_uid == answer.pod_uid else 0
    return {**previous, answer.uid: Progress(answer.pod_uid, stages | {answer.stage}, at, device_mb)}


def _loaded(previous: Mapping[str, Progress], fact: MemoryLoaded, at: float) -> Mapping[str, Progress]:
    """Return how far engines have loaded after one was seen to hold more memory than ever."""
    last = previous.get(fact.uid)
    if last is None or last.pod_uid != fact.pod_uid:
        last = Progress(fact.pod_uid, frozenset(), at)
    elif fact.device_mb < last.device_mb + LOADED_MB:
        return previous
    return {**previous, fact.uid: msgspec.structs.replace(last, at=at, device_mb=fact.device_mb)}


def _without(by_uid: Mapping[str, T], uid: str) -> Mapping[str, T]:
    if uid not in by_uid:
        return by_uid
    return {other: value for other, value in by_uid.items() if other != uid}


def pods_of(model: Model, state: ObservedState, memory: Memory) -> tuple[PodFacts, ...]:
    """Return the Model's own engine Pods, oldest first, each as last observed or as last read by the launcher, whichever is newer."""
    own = {
        pod.uid: pod
        for pod in state.workload(model).pods
        if pod.model_uid == model.uid and pod.name == model.pod_name
    }
    probe = memory.probe(model)
    if probe is not None:
        _merge(own, probe.answer, model, state.lost_pods.get(model.key, frozenset()))
    return tuple(sorted(own.values(), key=lambda pod: pod.version))


def _merge(own: dict[str, PodFacts], answer: EngineProbed, model: Model, lost_uids: frozenset[str]) -> None:
    """Add what the launcher itself read last.

    A Pod that is gone counts as deleted until its deletion is observed, or a later version of it: an API server that was restored has it again. A Pod that the observed state had and no longer has, or that was terminating when it was read and is not there, is not added: it was
    deleted since, and no watch will report it again. Its Model would be Ready without a Pod, or its replacement wait for it without end.
    """
    if answer.gone and _is_deleted(own.get(answer.pod_uid), answer.version, lost_uids):
        own.pop(answer.pod_uid, None)
    pod = answer.pod
    if pod is None or pod.model_uid != model.uid:
        return
    previous = own.get(pod.uid)
    if previous is not None:
        newer = pod.version > previous.version
    else:
        newest = max((other.version for other in own.values()), default=0)
        newer = pod.version > newest and not (pod.deleting or pod.uid in lost_uids)
    if newer:
        own[pod.uid] = pod


def _is_deleted(pod: PodFacts | None, version: int, lost_uids: frozenset[str]) -> bool:
    """Return whether what is observed of a Pod is older than its deletion after this version."""
    return pod is not None and pod.uid not in lost_uids and (pod.deleting or pod.version <= version)
