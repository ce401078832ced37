"""Every name that others can see: group, labels, annotations, finalizers, condition types and reasons.

This is the only module that spells the API group. A reason stands in exactly one constant, and
`REASONS` says in one sentence what each means: the reference page is made from it.
"""

from collections.abc import Mapping
from types import MappingProxyType

GROUP = "ai.flexinfer"
VERSION = "v1alpha2"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Model"
PLURAL = "models"

SYSTEM_NAMESPACE = "flexinfer-system"
PROXY_SERVICE = "flexinfer-proxy"
IMAGE = "ghcr.io/flexinfer/flexinfer"
"""Our own image, without a tag: the local node runs it by this interpreter."""

# Labels and annotations of children.
MODEL_LABEL = "flexinfer.ai/model"
MODEL_UID_LABEL = "flexinfer.ai/model-uid"
TURN_LABEL = "flexinfer.ai/turn"
FETCHES_LABEL = "flexinfer.ai/fetches"
"""`true` on what goes out for weights: network policies let nothing else out."""
TEMPLATE_ANNOTATION = "flexinfer.ai/template"
"""Hash of the Pod template as the launcher rendered it, so that a change is seen without comparing defaults."""
GENERATION_ANNOTATION = "flexinfer.ai/generation"
SOURCE_ANNOTATION = "flexinfer.ai/source"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
PART_OF_LABEL = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

LITELLM_PREFIX = "litellm.flexinfer.ai"
SERVICE_LABELS_ANNOTATION = "flexinfer.ai/service-labels"
GPU_FREE_MEMORY_ANNOTATION = "flexinfer.ai/gpu-free-memory"
GPU_VENDOR_LABEL = "flexinfer.ai/gpu.vendor"

RUNNING_FINALIZER = "flexinfer.ai/running"
GATE_PREFIX = "flexinfer.ai/turn-"
"""A Pod is born with the scheduling gate `flexinfer.ai/turn-<n>` and loses it when its turn is confirmed."""

GPU_RESOURCES: Mapping[str, str] = MappingProxyType({"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"})
OUT_OF_SERVICE_TAINT = "node.kubernetes.io/out-of-service"

# Condition types, in the order in which first verdicts are written. Each has one owner.
ACCEPTED = "Accepted"
PLACED = "Placed"
CACHED = "Cached"
WANTED = "Wanted"
GRANTED = "Granted"
READY = "Ready"
CONDITIONS = (ACCEPTED, PLACED, CACHED, WANTED, GRANTED, READY)
OWNERS: Mapping[str, str] = MappingProxyType(
    {
        ACCEPTED: "watcher",
        PLACED: "placer",
        CACHED: "prefetcher",
        WANTED: "reaper",
        GRANTED: "arbiter",
        READY: "launcher",
    }
)
STATUS_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "watcher": ("phase", "observedGeneration", "message"),
        "placer": ("placement",),
        "prefetcher": ("cache",),
        "reaper": ("lastActiveTime",),
        "arbiter": ("sharedGroup",),
        "launcher": ("endpoint", "backend"),
    }
)

# Phases, for people.
IDLE, PENDING, LOADING, PHASE_READY, PREEMPTED_PHASE, FAILED = (
    "Idle",
    "Pending",
    "Loading",
    "Ready",
    "Preempted",
    "Failed",
)
PHASES = (IDLE, PENDING, LOADING, PHASE_READY, PREEMPTED_PHASE, FAILED)

# Reasons. Where one word serves two conditions it means the same in both.
R_ACCEPTED = "Accepted"
R_RESERVED_NAMESPACE = "ReservedNamespace"
R_UNKNOWN_BACKEND = "UnknownBackend"
R_UNSUPPORTED_SOURCE = "UnsupportedSource"
R_INVALID_SOURCE = "InvalidSource"
R_INVALID_CONFIG = "InvalidConfig"
R_INVALID_SPEC = "InvalidSpec"
R_UNSUPPORTED_VENDOR = "UnsupportedVendor"

R_PLACED = "Placed"
R_NO_NODE_FITS = "NoNodeFits"
R_NODE_GONE = "NodeGone"
R_NODE_NOT_READY = "NodeNotReady"

R_NOT_ACCEPTED = "NotAccepted"
R_NOT_PLACED = "NotPlaced"
R_NOT_CACHED = "NotCached"
R_NOT_WANTED = "NotWanted"
R_NOT_GRANTED = "NotGranted"

R_CACHED = "Cached"
R_PULLED_BY_ENGINE = "PulledByEngine"
R_IN_IMAGE = "InImage"
R_CHECKING = "Checking"
R_FETCHING = "Fetching"
R_CLAIM_NOT_FOUND = "ClaimNotFound"
R_SOURCE_NOT_FOUND = "SourceNotFound"
R_FETCH_FAILED = "FetchFailed"
R_CLAIM_PENDING = "ClaimPending"
R_NAME_TAKEN = "NameTaken"

R_ALWAYS_ON = "AlwaysOn"
R_REQUESTED = "Requested"
R_ACTIVE = "Active"
R_FIRST_START = "FirstStart"
R_FIRST_START_QUEUED = "FirstStartQueued"
R_FIRST_START_FAILED = "FirstStartFailed"
R_START_FAILED = "StartFailed"
R_IDLE = "Idle"
R_DELETING = "Deleting"

R_NOT_SHARED = "NotShared"
R_GRANTED = "Granted"
R_QUEUED = "Queued"
R_PREEMPTED = "Preempted"
R_RELEASED = "Released"
R_BLOCKED = "Blocked"
R_LEAVING_GROUP = "LeavingGroup"

R_READY = "Ready"
R_SERVING_OLDER_SPEC = "ServingOlderSpec"
R_NOT_STARTED = "NotStarted"
R_STARTING = "Starting"
R_LOADING = "Loading"
R_RESTARTING = "Restarting"
R_BACK_OFF = "BackOff"
R_IMAGE_PULL_FAILED = "ImagePullFailed"
R_LOADING_TIMEOUT = "LoadingTimeout"
R_DRAINING = "Draining"
R_STOPPING = "Stopping"
R_STOPPED = "Stopped"
R_NODE_UNREACHABLE = "NodeUnreachable"
R_CREATE_REFUSED = "CreateRefused"

REASONS: Mapping[str, str] = MappingProxyType(
    {
        R_ACCEPTED: "The spec is one that FlexInfer can serve; the message names what is accepted but has no effect.",
        R_RESERVED_NAMESPACE: "Models may not live in flexinfer-system; create it in another namespace.",
        R_UNKNOWN_BACKEND: "No backend of that name exists; the message lists those that do.",
        R_UNSUPPORTED_SOURCE: "The backend cannot serve this source scheme; the message lists those that it can.",
        R_INVALID_SOURCE: "The source does not follow its scheme's grammar; the message shows the form.",
        R_INVALID_CONFIG: "A key of spec.config is unknown, of the wrong type or unsafe; the message names it.",
        R_INVALID_SPEC: "Fields of the spec contradict each other; the message names them.",
        R_UNSUPPORTED_VENDOR: "The backend does not run on that GPU vendor.",
        R_PLACED: "A node, and devices where asked for, have been chosen.",
        R_NO_NODE_FITS: "No node can take the Model; the message says for each node what is missing.",
        R_NODE_GONE: "The node of the Model is gone or stayed silent too long; it will be placed anew.",
        R_NODE_NOT_READY: "The node of the Model is not ready; nothing is given away on silence alone.",
        R_NOT_ACCEPTED: "Waits for Accepted.",
        R_NOT_PLACED: "Waits for Placed.",
        R_NOT_CACHED: "Waits for Cached.",
        R_NOT_WANTED: "Nobody wants the Model to run now.",
        R_NOT_GRANTED: "Waits for its turn on the shared device.",
        R_CACHED: "The bytes are there, whole.",
        R_PULLED_BY_ENGINE: "The engine itself pulls the weights when it starts.",
        R_IN_IMAGE: "The path lies inside the engine's own image or, on the local node, on the host.",
        R_CHECKING: "A Job looks whether the source is there, with the mounts that the engine will have.",
        R_FETCHING: "A Job fetches the weights; status.cache holds its progress.",
        R_CLAIM_NOT_FOUND: "The PersistentVolumeClaim that the spec names does not exist in the namespace.",
        R_SOURCE_NOT_FOUND: "The claim or image is there, the path in it is not.",
        R_FETCH_FAILED: "Fetching failed; the message holds the cause and when it is tried again.",
        R_CLAIM_PENDING: "The claim is not bound yet.",
        R_NAME_TAKEN: "An object of the needed name belongs to somebody else; it is left alone.",
        R_ALWAYS_ON: "serverless.enabled is false: the Model always runs.",
        R_REQUESTED: "A request waits for the Model.",
        R_ACTIVE: "The Model was asked within its idleTimeout.",
        R_FIRST_START: "A new Model starts once, so that its owner sees it work.",
        R_FIRST_START_QUEUED: "Its first start waits for another first start, or for its device.",
        R_FIRST_START_FAILED: "Its first start failed; a request or a change of the spec tries again.",
        R_START_FAILED: "The start that a request asked for failed; the next request tries again.",
        R_IDLE: "Nobody asked for longer than idleTimeout.",
        R_DELETING: "The Model is being deleted.",
        R_NOT_SHARED: "The Model shares its device with no other Model.",
        R_GRANTED: "The Model holds its shared group's device.",
        R_QUEUED: "Another Model of the shared group holds the device; the message names it.",
        R_PREEMPTED: "The Model had to leave the device for another.",
        R_RELEASED: "The Model left the device since nobody asked for it.",
        R_BLOCKED: "The device did not come free; the message names Pod, process and node.",
        R_LEAVING_GROUP: "The Model leaves its former shared group once that device is free.",
        R_READY: "The engine answers.",
        R_SERVING_OLDER_SPEC: "The engine answers with the former spec while the newer one is not ready to start.",
        R_NOT_STARTED: "The engine has not been started.",
        R_STARTING: "The Pod has been created; its process has not started yet.",
        R_LOADING: "The engine's process runs and loads.",
        R_RESTARTING: "The engine died and is being started again.",
        R_BACK_OFF: "The engine keeps dying; the next try waits.",
        R_IMAGE_PULL_FAILED: "The engine's image cannot be had; the message says what to do.",
        R_LOADING_TIMEOUT: "The engine did not become ready before its loading deadline.",
        R_DRAINING: "Requests under way are let finish before the engine stops.",
        R_STOPPING: "The engine is being stopped.",
        R_STOPPED: "The engine has stopped and its Pod is gone.",
        R_NODE_UNREACHABLE: "The node does not answer; the engine may or may not run.",
        R_CREATE_REFUSED: "The API server refused the Pod; the message holds its words.",
    }
)

FINAL_REASONS = frozenset(
    {
        R_RESERVED_NAMESPACE,
        R_UNKNOWN_BACKEND,
        R_UNSUPPORTED_SOURCE,
        R_INVALID_SOURCE,
        R_INVALID_CONFIG,
        R_INVALID_SPEC,
        R_UNSUPPORTED_VENDOR,
        R_SOURCE_NOT_FOUND,
        R_NAME_TAKEN,
        R_FIRST_START_FAILED,
        R_LOADING_TIMEOUT,
    }
)
"""A condition that is False for one of these does not change by waiting: the phase is Failed."""
