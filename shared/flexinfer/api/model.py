"""Model: the one resource of FlexInfer, as its components read it. Pure.

The CRD in `crds/models.yaml` is the public schema; a contract test keeps these structs equal to it.
Validation is the API server's and `flexinfer.watcher.accepted`'s.
"""

from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.base import Resource
from flexinfer.api.conditions import Condition
from flexinfer.api.durations import seconds_or
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.headers import Headers
from flexinfer.api.membership import GroupMembership
from flexinfer.api.metadata import CustomResource
from flexinfer.api.placement import Placement
from flexinfer.api.podspec import EnvVar, Resources, SecretReference, Toleration
from flexinfer.api.quantity import Quantity

_DEEPEST = 32
"""Levels of spec.config: no engine takes more than one, and deeper ones may not be encoded again."""


class Gpu(Resource, frozen=True, kw_only=True):
    """GPU allocation; `count` None means 1 unless the vendor is cpu."""

    vendor: str = "auto"
    shared: str = ""
    priority: int = 100
    count: int | None = None
    exclusive: bool = False
    vram_estimate_mb: int | None = msgspec.field(name="vramEstimateMB", default=None)

    @property
    def devices(self) -> int:
        """How many devices the Model needs."""
        return 0 if self.vendor == "cpu" else (self.count or 1)


class Serverless(Resource, frozen=True, kw_only=True):
    """Scale to zero."""

    enabled: bool = True
    idle_timeout: str = "5m"
    cold_start_timeout: str = "60s"

    @property
    def idle_seconds(self) -> float:
        """IdleTimeout in seconds; the default's for a text that is not a duration."""
        return seconds_or(self.idle_timeout, Serverless().idle_timeout)


class Cache(Resource, frozen=True, kw_only=True):
    """Where fetched weights are stored; None means the backend's default."""

    strategy: str | None = None
    pvc_name: str | None = None
    storage_class: str | None = None
    access_mode: str | None = None
    size: Quantity | None = None
    reclaim_policy: str | None = None


class LiteLLM(Resource, frozen=True, kw_only=True):
    """How a LiteLLM proxy discovers the Model."""

    enabled: bool = True
    served_model_name: str | None = None
    aliases: tuple[str, ...] = ()
    copilot_alias: str | None = None


class ModelSpec(Resource, frozen=True, kw_only=True):
    """The spec, as the user wrote it."""

    backend: str
    source: str
    gpu: Gpu | None = None
    serverless: Serverless = Serverless()
    source_secret_ref: SecretReference | None = None
    cache: Cache | None = None
    config: dict[str, Any] = {}
    image: str = ""
    image_pull_secrets: tuple[SecretReference, ...] = ()
    runtime_class_name: str = ""
    env: tuple[EnvVar, ...] = ()
    resources: Resources | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    litellm: LiteLLM | None = None
    service_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could be read once but not written again. Raises ValueError."""
        if self.config and _depth(self.config) > _DEEPEST:
            raise ValueError(f"config is nested deeper than {_DEEPEST} levels")

    @property
    def devices(self) -> int:
        """How many GPU devices the Model needs."""
        return self.gpu.devices if self.gpu is not None else 0

    @property
    def group(self) -> str:
        """The shared group, empty when there is none."""
        gpu = self.gpu
        return gpu.shared if gpu is not None and gpu.shared and gpu.devices else ""

    @property
    def priority(self) -> int:
        """The priority within the shared group."""
        return self.gpu.priority if self.gpu else 100


class CacheStatus(Resource, frozen=True, kw_only=True):
    """The state of the weights; sizes are bytes."""

    strategy: str = ""
    ready: bool = False
    pvc_name: str = ""
    job_name: str = ""
    job_phase: str = ""
    revision: str = ""
    bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: int = 0
    eta_seconds: int = 0
    progress: str = ""
    """For people: `37% of 4.9 GB, 2m left`, and the size alone once everything is there."""
    headers: Headers | None = None
    """What the headers of complete weights say; None where no Job has read any."""
    message: str = ""


class BackendStatus(Resource, frozen=True, kw_only=True):
    """The running engine; `address` is host:port of its Pod.

    In a shared group, `turn` and `pod_uid` name the one Pod of a turn; they are written before its gate opens. Once the turn is
    returned, `turn` is left without `pod_uid`.
    """

    address: str = ""
    loading_stage: str = ""
    load_seconds: float = 0.0
    restarts: int = 0
    turn: int = 0
    pod_uid: str = msgspec.field(name="podUID", default="")


class MetricsStatus(Resource, frozen=True, kw_only=True):
    """What `flexinfer bench` measured last, through the proxy; `measured_at` is RFC 3339.

    `tokens_per_second` is what one request alone gets once its first token is there, `time_to_first_token_ms` what passes until then.
    """

    tokens_per_second: float = 0.0
    time_to_first_token_ms: int = 0
    measured_at: str = ""
    engine: str = ""


class ModelStatus(Resource, frozen=True, kw_only=True):
    """The status; each field has one owner (`api.services.STATUS_FIELDS`, and BENCH_FIELDS for what people measure)."""

    phase: str = ""
    observed_generation: int = 0
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    last_active_time: str | None = None
    shared_group: GroupMembership | None = None
    placement: Placement | None = None
    cache: CacheStatus | None = None
    endpoint: str = ""
    backend: BackendStatus | None = None
    metrics: MetricsStatus | None = None


class Model(CustomResource, frozen=True, kw_only=True):
    """One served model."""

    api_version: str = API_VERSION
    kind: str = KIND
    spec: ModelSpec
    status: ModelStatus = ModelStatus()
    unreadable: str = ""
    """Why the spec could not be read, with the field; `spec` is empty then. The API server drops this field."""
    unreadable_status: tuple[str, ...] = ()
    """The parts of the status that could not be read, each with the reason; they are absent from `status`. Dropped too."""

    @property
    def pod_name(self) -> str:
        """The one name that its engine's Pod may have: it excludes a second engine (ADR 0010)."""
        return f"{self.metadata.name}-0"

    @property
    def assigned_node(self) -> str:
        """The node of its placement, whatever Placed says; empty if there is none."""
        return self.status.placement.node if self.status.placement is not None else ""

    @property
    def checked(self) -> bool:
        """Whether free memory was checked for the present start: since Wanted turned True last, or before it was first written."""
        wanted, placement = self.condition(conditions.WANTED), self.status.placement
        since = wanted.last_transition_time if wanted is not None and wanted.true else ""
        return placement is not None and placement.checked_for == since

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of that type, of any generation, or None."""
        for condition in self.status.conditions:
            if condition.type == kind:
                return condition
        return None

    def condition_status(self, kind: str) -> str:
        """Return True, False or Unknown for the current generation.

        A condition of an older generation is Unknown: it was decided from another spec.
        """
        condition = self.condition(kind)
        if condition is None or condition.observed_generation != self.metadata.generation:
            return conditions.UNKNOWN
        return condition.status

    def is_true(self, kind: str) -> bool:
        """Return whether a condition is True for the current generation."""
        condition = self.condition(kind)
        return (
            condition is not None
            and condition.status == conditions.TRUE
            and condition.observed_generation == self.metadata.generation
        )


def _depth(value: object) -> int:
    """Return how deep JSON is nested, counted no further than the limit."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        children = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
        level, depth = [child for child in children if isinstance(child, dict | list)], depth + 1
    return depth
