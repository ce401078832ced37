"""Workload: what the cluster runs for one Model, reduced to what decisions need. Pure.

Pods, Jobs and PVCs are read here into facts; who watches them is the watcher.
"""

import msgspec

from flexinfer.api import kube
from flexinfer.api.groupversion import KIND
from flexinfer.api.labels import (
    GATE_PREFIX,
    GENERATION_ANNOTATION,
    GPU_RESOURCES,
    MODEL_LABEL,
    MODEL_UID_LABEL,
    SELECTED_NODE_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TURN_LABEL,
)
from flexinfer.api.metadata import Metadata, OwnerReference
from flexinfer.api.numbers import whole_number

_ENDED = ("Succeeded", "Failed")
NO_TURN = -1
"""The turn of a Pod whose label is not a number: that of no group."""
_TEXT_LIMIT, _OUTPUT_LIMIT, _REPORT_LIMIT, _HASH_LIMIT = 1024, 4096, 4096, 128
_DEVICES_LIMIT = 64
"""Characters of texts that others write: one annotation may have 256 KiB, one message of NATS 4 MB."""


class PodFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One Pod of a Model; `exit_code` is that of its engine's last end, None if it has not ended yet."""

    name: str
    uid: str
    version: int = 0
    model_uid: str = ""
    unlabelled: bool = False
    """Whether it has lost the labels that say so."""
    turn: int = 0
    template: str = ""
    generation: int = 0
    gates: tuple[str, ...] = ()
    """The scheduling gate of its turn, while that is not open; those of others are none of ours."""
    node: str = ""
    ip: str = ""
    phase: str = ""
    deleting: bool = False
    running: bool = False
    ready: bool = False
    restarts: int = 0
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    devices: tuple[str, ...] = ()
    """Ids of the GPUs that the node has given to its engine, as the device plugin names them: a uuid or a PCI address."""
    last: str = ""
    """Why the engine's process ended last, such as `OOMKilled` or `Error: no such file`."""
    output: str = ""
    """The end of what the engine's process wrote before it failed last; a backend knows which of its lines names the cause."""

    @property
    def gated(self) -> bool:
        """Whether the Pod still waits for its turn, and uses no device."""
        return bool(self.gates)

    @property
    def ended(self) -> bool:
        """Whether all containers of the Pod have ended and none will be restarted."""
        return self.phase in _ENDED


class JobFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One Job of a Model.

    `fingerprint` identifies what it fetches, `report` is the termination message of its newest Pod.
    """

    name: str
    uid: str
    fingerprint: str = ""
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    complete: bool = False
    failed_reason: str = ""
    report: str = ""
    waiting: str = ""
    address: str = ""
    """IP address of its Pod while that runs."""


class ClaimFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A PVC that a Model mounts; `node` is the one that its volume was made for, empty if it was made for none."""

    name: str
    uid: str = ""
    phase: str = ""
    storage_class: str = ""
    model_uid: str = ""
    node: str = ""
    deleting: bool = False


def pod_facts(pod: kube.Pod) -> PodFacts:
    """Return the facts of a Pod.

    A turn that is not a number is NO_TURN, a generation that is none is 0: every user who may label Pods may write
    anything there. Texts are cut to what a condition quotes.
    """
    labels, container = pod.metadata.labels, _engine(pod)
    state = container.state if container else kube.ContainerState()
    termination = state.terminated or (container.last_state.terminated if container else None)
    reason, message = _why(pod, state)
    return PodFacts(
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        version=pod.metadata.version,
        model_uid=model_uid(pod.metadata),
        unlabelled=_is_unlabelled(pod.metadata),
        turn=_number(labels.get(TURN_LABEL, "0"), NO_TURN),
        template=pod.metadata.annotations.get(TEMPLATE_ANNOTATION, "")[:_HASH_LIMIT],
        generation=_number(pod.metadata.annotations.get(GENERATION_ANNOTATION, "0")),
        gates=tuple(gate.name for gate in pod.spec.scheduling_gates if gate.name.startswith(GATE_PREFIX))[:1],
        node=pod.spec.node_name,
        ip=pod.status.pod_ip,
        phase=pod.status.phase[:_HASH_LIMIT],
        deleting=pod.metadata.deleting,
        running=state.running is not None,
        ready=any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions),
        restarts=container.restart_count if container else 0,
        reason=reason[:_TEXT_LIMIT],
        message=message[:_TEXT_LIMIT],
        exit_code=termination.exit_code if termination else None,
        devices=_devices(container),
        last=_last(termination),
        output=termination.message[-_OUTPUT_LIMIT:] if termination and termination.exit_code else "",
    )


def model_uid(metadata: Metadata) -> str:
    """Return the uid of an object's Model, by controller owner or else by label, which any user may edit; empty if it has none."""
    owner = _owner(metadata)
    return owner.uid if owner is not None else metadata.labels.get(MODEL_UID_LABEL, "")


def model_name(metadata: Metadata) -> str:
    """Return the name of an object's Model, as `model_uid` does; empty if it has none."""
    owner = _owner(metadata)
    return owner.name if owner is not None else metadata.labels.get(MODEL_LABEL, "")


def _owner(metadata: Metadata) -> OwnerReference | None:
    """Return the reference to the Model that controls an object."""
    return next((o for o in metadata.owner_references if o.kind == KIND and o.controller), None)


def is_controlled_by(metadata: Metadata, uid: str) -> bool:
    """Return whether the Model of a uid controls an object, whatever its labels say."""
    owner = _owner(metadata)
    return owner is not None and owner.uid == uid


def _is_unlabelled(metadata: Metadata) -> bool:
    """Return whether an object lacks the labels that say which Model it belongs to."""
    owner, labels = _owner(metadata), metadata.labels
    return owner is not None and (labels.get(MODEL_LABEL), labels.get(MODEL_UID_LABEL)) != (
        owner.name,
        owner.uid,
    )


def _devices(container: kube.ContainerStatus | None) -> tuple[str, ...]:
    """Return the ids of a container's GPUs; the replica of a device that is shared by time (`GPU-1::0`) is that device."""
    allocation = container.allocated_resources_status if container else ()
    ids = (
        one.resource_id
        for entry in allocation
        if entry.name in GPU_RESOURCES.values()
        for one in entry.resources
    )
    return tuple(dict.fromkeys(text.partition("::")[0][:_HASH_LIMIT] for text in ids))[:_DEVICES_LIMIT]


def odd_numbers(pod: kube.Pod) -> list[str]:
    """Return the labels and annotations of a Pod that should be numbers and are none, as `key=value`."""
    meta = pod.metadata
    values = {TURN_LABEL: meta.labels, GENERATION_ANNOTATION: meta.annotations}
    return [
        f"{key}={texts[key][:_HASH_LIMIT]!r}"
        for key, texts in values.items()
        if key in texts and whole_number(texts[key]) is None
    ]


def _number(text: str, otherwise: int = 0) -> int:
    number = whole_number(text)
    return otherwise if number is None else number


def _last(termination: kube.ContainerState.Terminated | None) -> str:
    lines = termination.message.strip().splitlines() if termination else []
    words = (termination.reason if termination else "", lines[-1] if lines else "")
    return ": ".join(word for word in words if word)[:_TEXT_LIMIT]


def _engine(pod: kube.Pod) -> kube.ContainerStatus | None:
    return pod.status.container_statuses[0] if pod.status.container_statuses else None


def _init_failure(pod: kube.Pod) -> tuple[str, str] | None:
    """Return why an init container failed: its reason, and the last line of its message."""
    for container in pod.status.init_container_statuses:
        termination = container.state.terminated or container.last_state.terminated
        if termination is not None and termination.exit_code:
            last = termination.message.strip().splitlines()
            return f"Init{termination.reason or 'Error'}", last[
                -1
            ] if last else f"exit code {termination.exit_code}"
    return None


def _eviction(pod: kube.Pod) -> tuple[str, str] | None:
    """Return why a node ended a Pod.

    The kubelet writes it into the Pod's status or only into a condition, also for an engine that ended with
    exit code 0.
    """
    if pod.status.reason:
        return pod.status.reason, pod.status.message
    disruption = next(
        (c for c in pod.status.conditions if c.type == "DisruptionTarget" and c.status == "True"), None
    )
    return None if disruption is None else (disruption.reason, disruption.message)


def _why(pod: kube.Pod, state: kube.ContainerState) -> tuple[str, str]:
    """Return reason and message of the state that a Pod is in, the cause before its consequences."""
    if pod.status.phase in _ENDED and (eviction := _eviction(pod)) is not None:
        return eviction  # what its containers say is a consequence
    if state.running is None and (failure := _init_failure(pod)) is not None:
        return failure
    if state.waiting is not None:
        return state.waiting.reason, state.waiting.message
    if state.terminated is not None:
        return state.terminated.reason, state.terminated.message
    scheduling = next(
        (c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"), None
    )
    if scheduling is not None:
        return scheduling.reason, scheduling.message
    return pod.status.reason, pod.status.message


FINGERPRINT_ANNOTATION = "flexinfer.ai/fingerprint"


def job_facts(job: kube.Job, pods: tuple[kube.Pod, ...] = ()) -> JobFacts:
    """Return the facts of a Job and of the newest of its Pods."""
    conditions = {c.type: c for c in job.status.conditions if c.status == "True"}
    report, waiting, address = "", "", ""
    for pod in sorted(pods, key=lambda p: p.metadata.version):
        container = _engine(pod)
        termination = container.state.terminated or container.last_state.terminated if container else None
        report = termination.message if termination and termination.message else report
        reason, message = _why(pod, container.state if container else kube.ContainerState())
        waiting = f"{reason}: {message}" if reason and not termination else ""
        address = pod.status.pod_ip if container is not None and container.state.running is not None else ""
    failure = conditions.get("Failed")
    return JobFacts(
        name=job.metadata.name,
        uid=job.metadata.uid,
        fingerprint=job.metadata.annotations.get(FINGERPRINT_ANNOTATION, "")[:_HASH_LIMIT],
        active=job.status.active,
        succeeded=job.status.succeeded,
        failed=job.status.failed,
        complete="Complete" in conditions,
        failed_reason=f"{failure.reason}: {failure.message}"[:_TEXT_LIMIT] if failure else "",
        report=report[-_REPORT_LIMIT:],
        waiting=waiting[:_TEXT_LIMIT],
        address=address,
    )


def claim_facts(claim: kube.Claim) -> ClaimFacts:
    """Return the facts of a PVC."""
    return ClaimFacts(
        name=claim.metadata.name,
        uid=claim.metadata.uid,
        phase=claim.status.phase or "Pending",
        storage_class=claim.spec.storage_class_name or "",
        model_uid=claim.metadata.labels.get(MODEL_UID_LABEL, ""),
        node=claim.metadata.annotations.get(SELECTED_NODE_ANNOTATION, "")[:_TEXT_LIMIT],
        deleting=claim.metadata.deleting,
    )
