"""Accepted: whether a spec can be served. Pure and total: any spec gets an answer, never an exception.

A refusal says what to change. An acceptance names every field that has no effect.
"""

from collections.abc import Iterator, Sequence

from flexinfer import backends, sources
from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.durations import seconds
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Gpu, Model, ModelSpec, Serverless
from flexinfer.api.numbers import counted
from flexinfer.api.podspec import Resources
from flexinfer.api.quantity import Quantity, milli
from flexinfer.api.reasons import Reason
from flexinfer.backends import Problem, arguments
from flexinfer.state import actions

_NAMED_PROBLEMS = 3
_NAMED_CONFLICTS = 5
_OWN_VOLUME = ("pvc", "file")
_DOWNLOAD_KEYS = ("hfRevision", "hfAllowPatterns", "hfIgnorePatterns", "allowUnsafeFormats")


def accepted(candidate: Model, conflicts: Sequence[str] = ()) -> Condition:
    """Return Accepted of a Model; `conflicts` are its names that also mean another Model."""
    problems = list(_problems(candidate))
    if problems:
        message = "; also ".join(problem.message for problem in problems[:_NAMED_PROBLEMS])
        return actions.false(candidate, conditions.ACCEPTED, problems[0].reason, message)
    message = "; ".join(("the spec is valid", *warnings(candidate.spec)))
    if conflicts:
        doubtful = ", ".join(conflicts[:_NAMED_CONFLICTS])
        message = f"{message}; names that mean another Model too: {doubtful}; change one of each"
    reason = Reason.NAME_CONFLICT if conflicts else Reason.ACCEPTED
    return actions.true(candidate, conditions.ACCEPTED, reason, message)


def _problems(candidate: Model) -> Iterator[Problem]:
    """Yield what is wrong, the most useful first: the reason of the condition is that of the first."""
    spec = candidate.spec
    if candidate.unreadable:
        yield Problem(Reason.INVALID_SPEC, f"the spec cannot be read: {candidate.unreadable}; correct it")
        return
    if candidate.metadata.namespace == SYSTEM_NAMESPACE:
        yield Problem(
            Reason.RESERVED_NAMESPACE,
            f"Models are not allowed in {SYSTEM_NAMESPACE}, which holds FlexInfer's own objects; "
            "create the Model in another namespace, such as default",
        )
    backend = backends.find(spec.backend)
    if backend is None:
        names = ", ".join(backends.names())
        yield Problem(Reason.UNKNOWN_BACKEND, f"spec.backend {spec.backend!r} is unknown; use one of {names}")
    source = sources.parse(spec.source)
    if isinstance(source, sources.SourceError):
        yield Problem(source.reason, source.message)
    elif backend is not None:
        yield from backend.refuse(spec)
    for message in _contradictions(spec):
        yield Problem(Reason.INVALID_SPEC, message)


def _contradictions(spec: ModelSpec) -> Iterator[str]:
    """Yield what the rules of the CRD refuse too: the installed CRD may be older than this program."""
    gpu = spec.gpu or Gpu()
    if gpu.vendor == "cpu" and (gpu.count or gpu.vram_estimate_mb or gpu.shared or gpu.exclusive):
        yield "spec.gpu.vendor cpu takes no count, vramEstimateMB, shared or exclusive; remove them"
    if gpu.count is not None and gpu.count < 1 and gpu.vendor != "cpu":
        yield f"spec.gpu.count is {gpu.count}; set it to at least 1, or remove spec.gpu for a CPU Model"
    for name, duration in (
        ("idleTimeout", spec.serverless.idle_timeout),
        ("coldStartTimeout", spec.serverless.cold_start_timeout),
    ):
        try:
            seconds(duration)
        except ValueError as error:
            yield f"spec.serverless.{name}: {error}"
    yield from _tolerations(spec)
    yield from _quantities(spec)
    yield from _above_limits(spec)


def _tolerations(spec: ModelSpec) -> Iterator[str]:
    """Yield tolerations that the API server would refuse in a Pod."""
    for index, toleration in enumerate(spec.tolerations):
        path = f"spec.tolerations[{index}]"
        if toleration.operator not in ("Equal", "Exists"):
            yield f"{path}.operator is {toleration.operator!r}; use Equal or Exists"
        elif not toleration.key and toleration.operator != "Exists":
            yield f"{path}.key is missing; name the key of the taint, or set operator Exists for every taint"
        elif toleration.value and toleration.operator == "Exists":
            yield f"{path}.value has no meaning with operator Exists; remove it, or set operator Equal"
        if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
            yield f"{path}.tolerationSeconds needs effect NoExecute; set it, or remove tolerationSeconds"


def _quantities(spec: ModelSpec) -> Iterator[str]:
    """Yield amounts that are no quantities, and devices that are requested in the wrong place."""
    resources = spec.resources or Resources()
    amounts = [("spec.cache.size", spec.cache.size)] if spec.cache is not None and spec.cache.size else []
    amounts += [(f"spec.resources.requests.{name}", amount) for name, amount in resources.requests.items()]
    amounts += [(f"spec.resources.limits.{name}", amount) for name, amount in resources.limits.items()]
    for path, amount in amounts:
        if (whole := _milli(amount)) is None:
            yield f"{path} {amount!r} is not a quantity such as 500m or 4Gi"
        elif whole < 0:
            yield f"{path} {amount!r} is negative; use a quantity such as 500m or 4Gi"
        if path.rpartition("resources.")[2].partition(".")[2] in GPU_RESOURCES.values():
            yield f"{path}: remove it; devices are requested by spec.gpu.count"


def warnings(spec: ModelSpec) -> Iterator[str]:
    """Yield what a user should know of a valid spec: what has no effect, and what goes to the engine unchecked."""
    if fields := "; ".join(without_effect(spec)):
        yield f"without effect: {fields}"
    if extra := arguments.appended(spec.config):
        yield (
            f"unchecked: spec.config.{arguments.EXTRA} ({counted(len(extra), 'argument')}) goes to {spec.backend} as it is; "
            "an engine that does not know all of it does not start, and nothing of it counts in the estimate of memory"
        )


def _above_limits(spec: ModelSpec) -> Iterator[str]:
    """Yield requests above the limit of the same resource: the API server would refuse the Pod."""
    resources = spec.resources or Resources()
    for name, amount in resources.requests.items():
        request, limit = _milli(amount), _milli(resources.limits.get(name, amount))
        if request is not None and limit is not None and request > limit:
            yield (
                f"spec.resources.requests.{name} {amount} is more than its limit of {resources.limits[name]}; "
                f"lower it, or raise spec.resources.limits.{name}"
            )


def _milli(amount: Quantity) -> int | None:
    try:
        return milli(amount)
    except ValueError:
        return None


def without_effect(spec: ModelSpec) -> Iterator[str]:
    """Yield each field that is accepted but has no effect, and why."""
    yield from _unused_cache(spec)
    if spec.source_secret_ref is not None and _scheme(spec) in _OWN_VOLUME:
        yield f"spec.sourceSecretRef ({_scheme(spec)}:// is used in place, nothing is downloaded)"
    if spec.gpu is not None and spec.gpu.priority != Gpu().priority and not spec.gpu.shared:
        yield "spec.gpu.priority (only members of a shared group compete)"
    keys = [name for name in _DOWNLOAD_KEYS if name in spec.config]
    if keys and _scheme(spec) != "HF":
        yield f"spec.config.{', '.join(keys)} (only HF:// sources are downloaded from the hub)"
    if not spec.serverless.enabled and spec.serverless.idle_timeout != Serverless().idle_timeout:
        yield "spec.serverless.idleTimeout (serverless.enabled is false: always running)"
    litellm = spec.litellm
    if litellm is not None and not litellm.enabled and (litellm.aliases or litellm.copilot_alias):
        yield "spec.litellm.aliases (litellm.enabled is false)"


def _unused_cache(spec: ModelSpec) -> Iterator[str]:
    cache = spec.cache
    if cache is None:
        return
    if _scheme(spec) in _OWN_VOLUME:
        yield f"spec.cache ({_scheme(spec)}:// is used in place, nothing is cached)"
        return
    if cache.strategy != "None":
        return
    fields = {
        "pvcName": cache.pvc_name,
        "storageClass": cache.storage_class,
        "accessMode": cache.access_mode,
        "size": cache.size,
        "reclaimPolicy": cache.reclaim_policy,
    }
    names = [name for name, value in fields.items() if value]
    if names:
        yield f"spec.cache.{', '.join(names)} (only strategies SharedPVC and Memory use a PVC)"


def _scheme(spec: ModelSpec) -> str:
    return spec.source.partition("://")[0]
