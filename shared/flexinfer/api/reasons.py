"""The table of reasons: one row each; everything that depends on a reason derives from its row. Pure.

To add a reason, add a member of `reason.Reason` and its row; a contract test checks that a component writes it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from flexinfer.api.cache_reasons import CACHE_FACTS
from flexinfer.api.conditions import ACCEPTED, CACHED, CONDITIONS, GRANTED, PLACED, READY, WANTED
from flexinfer.api.reason import Facts, Reason

__all__ = ["FACTS", "Facts", "Reason", "remedy"]


def _invalid(meaning: str, remedy: str) -> Facts:
    """Return the row of a spec that is refused."""
    flags = {"final": True, "warning": True, "rejects_requests": True}
    return Facts((ACCEPTED,), meaning, remedy, **flags)


_GATED = (PLACED, CACHED, WANTED, GRANTED, READY)
_LOGS = "read the engine's log: kubectl logs -n {namespace} {name}-0 --previous"

FACTS: Mapping[Reason, Facts] = MappingProxyType(
    {
        Reason.ACCEPTED: Facts(
            (ACCEPTED,), "The spec is valid; the message names fields that are accepted but have no effect."
        ),
        Reason.NAME_CONFLICT: Facts(
            (ACCEPTED,),
            "The spec is valid, and a name of the Model also means another one of its namespace: an alias of two Models names "
            "neither, a Model's own name comes before an alias, and that before a label.",
            "change the alias or label on one of the Models that the message names",
        ),
        Reason.RESERVED_NAMESPACE: _invalid(
            "Models are not allowed in flexinfer-system.",
            "create the Model in another namespace, such as default",
        ),
        Reason.UNKNOWN_BACKEND: _invalid(
            "No backend has this name; the message lists the backends.",
            "set spec.backend to one of those listed",
        ),
        Reason.UNSUPPORTED_SOURCE: _invalid(
            "The backend does not support this source scheme; the message lists those that it supports.",
            "change spec.source or spec.backend",
        ),
        Reason.INVALID_SOURCE: _invalid(
            "The source does not follow the grammar of its scheme; the message shows the form.",
            "correct spec.source to the form shown",
        ),
        Reason.INVALID_CONFIG: _invalid(
            "A key of spec.config is unknown, has the wrong type or is unsafe; the message names it.",
            "correct or remove the key that the message names",
        ),
        Reason.INVALID_SPEC: _invalid(
            "Fields of the spec contradict each other; the message names them.",
            "correct the fields that the message names",
        ),
        Reason.UNSUPPORTED_VENDOR: _invalid(
            "The backend does not support this GPU vendor.",
            "set spec.gpu.vendor to one that the message lists, or change spec.backend",
        ),
        Reason.NOT_ACCEPTED: Facts(_GATED, "Waiting for Accepted=True.", "see the condition Accepted"),
        Reason.NOT_PLACED: Facts((CACHED, GRANTED), "Waiting for Placed=True.", "see the condition Placed"),
        Reason.NOT_CACHED: Facts((GRANTED,), "Waiting for Cached=True.", "see the condition Cached"),
        Reason.NOT_WANTED: Facts((GRANTED,), "The Model does not need its shared device now."),
        Reason.PLACED: Facts((PLACED,), "A node is assigned, and devices where the spec asks for them."),
        Reason.NO_NODE_FITS: Facts(
            (PLACED,),
            "No node can run the Model; the message says for each node what is missing.",
            "free or add what the message names, or lower the requirements in spec",
            warning=True,
        ),
        Reason.NODE_GONE: Facts(
            (PLACED,),
            "The node was deleted, is out of service or was NotReady for too long; the Model is rescheduled.",
            "nothing: the Model is rescheduled once its Pod on the old node is deleted; kubectl get nodes shows the others",
            warning=True,
        ),
        Reason.NODE_NOT_READY: Facts(
            (PLACED,),
            "The node is NotReady; a Model with devices keeps its assignment until the node returns or is removed.",
            "bring the node back, or delete it: kubectl get nodes",
        ),
        Reason.DEVICE_OUT_OF_USE: Facts(
            (PLACED,),
            "The driver has reported an error after which a GPU of a running Model must not be used, and no other one fits.",
            "reset the GPU (nvidia-smi --gpu-reset) or restart its node, or make room on another one",
            warning=True,
        ),
        **CACHE_FACTS,
        Reason.NAME_TAKEN: Facts(
            (CACHED, READY),
            "An object with the required name exists and does not belong to this Model; it is left unchanged.",
            "delete or rename the object that the message names, or rename the Model",
            final=True,
            warning=True,
            rejects_requests=True,
        ),
        Reason.ALWAYS_ON: Facts((WANTED,), "serverless.enabled is false: the Model always runs."),
        Reason.REQUESTED: Facts(
            (WANTED,),
            "A request has arrived for the Model; it stays wanted until it has been idle for its `idleTimeout`.",
        ),
        Reason.ACTIVE: Facts((WANTED,), "The last request is more recent than idleTimeout."),
        Reason.FIRST_START: Facts(
            (WANTED,), "Initial start: a new Model is started once to verify that it can serve."
        ),
        Reason.FIRST_START_QUEUED: Facts(
            (WANTED,),
            "The initial start is queued behind another start on the node, for as long as that makes progress, or waits for a shared device.",
            "wait; a request starts the Model before its turn",
        ),
        Reason.FIRST_START_FAILED: Facts(
            (WANTED,),
            "The initial start failed; a request or a spec change retries.",
            "fix the cause that the condition Ready or an Event names (kubectl events -n {namespace} --for mdl/{name}); a request or a spec change retries",
            final=True,
            warning=True,
        ),
        Reason.START_FAILED: Facts(
            (WANTED,),
            "The start for a request failed; the next request retries.",
            "fix the cause that the condition Ready or an Event names (kubectl events -n {namespace} --for mdl/{name}); the next request retries",
        ),
        Reason.IDLE: Facts(
            (WANTED,),
            "No request for longer than idleTimeout: the Model is scaled to zero.",
            "nothing: the Model is scaled to zero, and the next request starts it",
        ),
        Reason.DELETING: Facts((WANTED,), "The Model is being deleted."),
        Reason.NOT_SHARED: Facts((GRANTED,), "The Model is in no shared group; no grant is needed."),
        Reason.GRANTED: Facts((GRANTED,), "The Model holds the devices of its shared group."),
        Reason.QUEUED: Facts(
            (GRANTED,),
            "The devices have no room; the message names the queue position, the holders, the group if that is another, and what is waited for.",
            "wait; a request makes holders leave that are idle or of a lower priority, and a lease ends by `flexinfer lease give`; "
            "`flexinfer why {name} -n {namespace}` says whether a higher spec.gpu.priority helps",
        ),
        Reason.PREEMPTED: Facts(
            (GRANTED,),
            "The Model made room for another one of its shared group, which the message names with the reason; no request waits for it.",
            "send a request: it is queued again, and goes before holders that are idle or of a lower priority",
        ),
        Reason.RELEASED: Facts((GRANTED,), "The Model is releasing the devices of its shared group."),
        Reason.BLOCKED: Facts(
            (GRANTED,),
            "The devices were not freed in time; the message names Pod, process and node.",
            "delete the Pod or end the process that the message names",
            warning=True,
        ),
        Reason.LEAVING_GROUP: Facts(
            (GRANTED,),
            "The Model left a shared group whose devices it still holds; it waits until they are free.",
        ),
        Reason.READY: Facts((READY,), "The engine is healthy and serves requests."),
        Reason.SERVING_OLDER_SPEC: Facts(
            (READY,),
            "The engine serves the previous spec while the newer one is refused or not ready to start.",
        ),
        Reason.NOT_STARTED: Facts((READY,), "The engine has not been started.", at_rest=True),
        Reason.STARTING: Facts((READY,), "The Pod exists; its container has not started.", loading=True),
        Reason.LOADING: Facts((READY,), "The engine process runs and is loading the weights.", loading=True),
        Reason.RESTARTING: Facts(
            (READY,),
            "The engine exited, stopped responding or lost its Pod, and is being restarted.",
            _LOGS,
            loading=True,
            warning=True,
        ),
        Reason.BACK_OFF: Facts(
            (READY,),
            "The engine keeps failing; the next attempt is delayed: by 60 s at most with a new Pod, by 5 min at most where the node restarts it in "
            "its Pod. A Model with serverless.enabled false is retried without end.",
            "fix the cause that the message names; the retry is automatic, and its log is: kubectl logs -n {namespace} {name}-0 -f",
            loading=True,
            stalled=True,
            warning=True,
        ),
        Reason.IMAGE_PULL_FAILED: Facts(
            (READY,),
            "The engine image cannot be pulled; the message has the node's error.",
            "fix what the message names (image name, registry access, pull secret); the retry is automatic",
            loading=True,
            stalled=True,
            warning=True,
        ),
        Reason.ENGINE_NOT_INSTALLED: Facts(
            (READY,),
            "The local node runs engines as programs of its machine, and the program of this engine is not installed there.",
            "install the program as the message says; it then starts by itself",
            loading=True,
            stalled=True,
            warning=True,
        ),
        Reason.LOADING_TIMEOUT: Facts(
            (READY,),
            "The engine made no progress before the loading deadline, or failed too often; the start was given up. Never written while serverless.enabled is false.",
            "fix the cause that the message names; a change of the spec or a request retries, and the log of that attempt is: "
            "kubectl logs -n {namespace} {name}-0 -f",
            final=True,
            warning=True,
        ),
        Reason.DRAINING: Facts((READY,), "In-flight requests complete before the engine stops."),
        Reason.STOPPING: Facts(
            (READY,),
            "The Pod is still terminating after its grace period; the message names it, what holds it (finalizers, node) and the exits.",
            "see what keeps the Pod: kubectl describe pod -n {namespace} {name}-0",
            warning=True,
        ),
        Reason.STOPPED: Facts((READY,), "The engine has stopped and its Pod is deleted.", at_rest=True),
        Reason.NODE_UNREACHABLE: Facts(
            (READY,),
            "The node is NotReady: the state of the engine is unknown, and no requests are routed to it. There is no deadline.",
            "bring the node back, delete it, or taint it out of service; the message has the commands",
            warning=True,
        ),
        Reason.CREATE_REFUSED: Facts(
            (READY,),
            "The API server rejected the Pod or Service; the message quotes it. The start is given up at the loading deadline, unless serverless.enabled is false.",
            "fix what the API server names (quota, policy, admission); the retry is automatic, at most 60 s apart",
            loading=True,
            stalled=True,
            warning=True,
        ),
    }
)

NOT_YET: Mapping[str, Reason] = MappingProxyType(
    {
        ACCEPTED: Reason.NOT_ACCEPTED,
        PLACED: Reason.NOT_PLACED,
        CACHED: Reason.NOT_CACHED,
        WANTED: Reason.NOT_WANTED,
    }
)
"""Condition type -> the reason of a condition that waits for it."""


def _with(flag: str) -> frozenset[str]:
    return frozenset(reason for reason, facts in FACTS.items() if getattr(facts, flag))


LOADING, STALLED, AT_REST, FINAL = _with("loading"), _with("stalled"), _with("at_rest"), _with("final")
WARNING, REJECTS_REQUESTS = _with("warning"), _with("rejects_requests")
FINAL_FOR: Mapping[str, frozenset[str]] = MappingProxyType(
    {kind: frozenset(r for r in FINAL if kind in FACTS[Reason(r)].conditions) for kind in CONDITIONS}
)
"""Condition type -> its final reasons."""


def remedy(reason: str, *, namespace: str, name: str) -> str:
    """Return what a user can do about a condition with this reason; empty if nothing, or if it is unknown."""
    facts = FACTS.get(Reason(reason)) if reason in Reason.__members__.values() else None
    return facts.remedy.format(namespace=namespace, name=name) if facts is not None else ""
