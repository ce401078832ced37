"""Accepted: is this a spec that we can serve? Pure, and total: whatever got past the CRD gets a sentence here.

A refusal says what to change. An acceptance names every field that was taken but has no effect, so that nobody wonders why.
"""

from collections.abc import Iterator

from flexinfer import backends, sources
from flexinfer.api import conditions, model
from flexinfer.api.conditions import Condition
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Gpu, Model, ModelSpec, Serverless
from flexinfer.api.quantity import milli
from flexinfer.api.reasons import Reason
from flexinfer.backends import Problem
from flexinfer.state import actions

_NAMED_PROBLEMS = 3
_OWN_VOLUME = ("pvc", "file")
_DOWNLOAD_KEYS = ("hfRevision", "hfAllowPatterns", "hfIgnorePatterns")


def accepted(candidate: Model) -> Condition:
    """Return the verdict on a Model's spec."""
    problems = list(_problems(candidate))
    if problems:
        first = problems[0]
        more = [p.message for p in problems[1:_NAMED_PROBLEMS]]
        message = "; also ".join([first.message, *more])
        return actions.condition(candidate, conditions.ACCEPTED, conditions.FALSE, first.reason, message)
    idle = list(without_effect(candidate.spec))
    message = (
        f"the spec can be served; without effect: {'; '.join(idle)}" if idle else "the spec can be served"
    )
    return actions.condition(candidate, conditions.ACCEPTED, conditions.TRUE, Reason.ACCEPTED, message)


def _problems(candidate: Model) -> Iterator[Problem]:
    """Yield what is wrong, the most telling first."""
    spec = candidate.spec
    if candidate.metadata.namespace == SYSTEM_NAMESPACE:
        yield Problem(
            Reason.RESERVED_NAMESPACE,
            f"Models may not live in {SYSTEM_NAMESPACE}, where FlexInfer keeps its own objects; "
            "create it in another namespace",
        )
    backend = backends.find(spec.backend)
    if backend is None:
        known = ", ".join(backends.names())
        yield Problem(Reason.UNKNOWN_BACKEND, f"spec.backend {spec.backend!r} is none of {known}")
    source = sources.parse(spec.source)
    if isinstance(source, sources.SourceError):
        yield Problem(source.reason, source.message)
    elif backend is not None:
        yield from backend.refuse(spec)
    for sentence in _contradictions(spec):
        yield Problem(Reason.INVALID_SPEC, sentence)


def _contradictions(spec: ModelSpec) -> Iterator[str]:
    """Yield what the CRD's own rules should have refused: a CRD may be older than this program."""
    gpu = spec.gpu or Gpu()
    if gpu.vendor == "cpu" and (gpu.count or gpu.vram_estimate_mb or gpu.shared):
        yield "spec.gpu.vendor cpu takes no count, vramEstimateMB or shared; remove them"
    if gpu.count is not None and gpu.count < 1 and gpu.vendor != "cpu":
        yield f"spec.gpu.count is {gpu.count}; it must be at least 1, or remove spec.gpu for a CPU-only Model"
    for name, duration in (
        ("idleTimeout", spec.serverless.idle_timeout),
        ("coldStartTimeout", spec.serverless.cold_start_timeout),
    ):
        try:
            model.seconds(duration)
        except ValueError as error:
            yield f"spec.serverless.{name}: {error}"
    yield from _quantities(spec)


def _quantities(spec: ModelSpec) -> Iterator[str]:
    needs = spec.resources or model.Resources()
    named = [("spec.cache.size", spec.cache.size)] if spec.cache is not None and spec.cache.size else []
    named += [(f"spec.resources.requests.{name}", amount) for name, amount in needs.requests.items()]
    named += [(f"spec.resources.limits.{name}", amount) for name, amount in needs.limits.items()]
    for path, amount in named:
        try:
            milli(amount)
        except (ValueError, OverflowError):
            yield f"{path} {amount!r} is not a quantity such as 500m or 4Gi"
        if path.rpartition("resources.")[2].partition(".")[2] in GPU_RESOURCES.values():
            yield f"{path}: ask for devices with spec.gpu.count instead"


def without_effect(spec: ModelSpec) -> Iterator[str]:
    """Yield each field that is accepted but does nothing, and why."""
    scheme = spec.source.partition("://")[0]
    cache = spec.cache
    if cache is not None and scheme in _OWN_VOLUME:
        yield f"spec.cache ({scheme}:// is used where it lies)"
    elif cache is not None and cache.strategy in ("Memory", "None"):
        given = [
            name
            for name, value in (
                ("pvcName", cache.pvc_name),
                ("storageClass", cache.storage_class),
                ("size", cache.size if cache.strategy == "None" else None),
            )
            if value
        ]
        if given:
            yield f"spec.cache.{', '.join(given)} (only strategy SharedPVC has a claim)"
    if spec.gpu is not None and spec.gpu.priority != Gpu().priority and not spec.gpu.shared:
        yield "spec.gpu.priority (only members of a shared group compete)"
    unread = [name for name in _DOWNLOAD_KEYS if name in spec.config] if scheme != "HF" else []
    if unread:
        yield f"spec.config.{', '.join(unread)} (only HF:// sources are fetched from the hub)"
    if not spec.serverless.enabled and spec.serverless.idle_timeout != Serverless().idle_timeout:
        yield "spec.serverless.idleTimeout (serverless is off: the Model always runs)"
    if (
        spec.litellm is not None
        and not spec.litellm.enabled
        and (spec.litellm.aliases or spec.litellm.copilot_alias)
    ):
        yield "spec.litellm.aliases (litellm is off)"
