"""Reason: why a condition has its status, and the form of a row of the table in `reasons`. Pure."""

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """The reasons that components write. One reason means the same in every condition that uses it."""

    ACCEPTED = "Accepted"
    NAME_CONFLICT = "NameConflict"
    RESERVED_NAMESPACE = "ReservedNamespace"
    UNKNOWN_BACKEND = "UnknownBackend"
    UNSUPPORTED_SOURCE = "UnsupportedSource"
    INVALID_SOURCE = "InvalidSource"
    INVALID_CONFIG = "InvalidConfig"
    INVALID_SPEC = "InvalidSpec"
    UNSUPPORTED_VENDOR = "UnsupportedVendor"

    NOT_ACCEPTED = "NotAccepted"
    NOT_PLACED = "NotPlaced"
    NOT_CACHED = "NotCached"
    NOT_WANTED = "NotWanted"

    PLACED = "Placed"
    NO_NODE_FITS = "NoNodeFits"
    NODE_GONE = "NodeGone"
    NODE_NOT_READY = "NodeNotReady"
    DEVICE_OUT_OF_USE = "DeviceOutOfUse"

    CACHED = "Cached"
    PULLED_BY_ENGINE = "PulledByEngine"
    NO_CLAIM = "NoClaim"
    IN_IMAGE = "InImage"
    CHECKING = "Checking"
    CHECK_QUEUED = "CheckQueued"
    FETCHING = "Fetching"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    SOURCE_NOT_FOUND = "SourceNotFound"
    FETCH_FAILED = "FetchFailed"
    GATED_REPOSITORY = "GatedRepository"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 -- a reason
    CLAIM_LOST = "ClaimLost"
    CLAIM_PENDING = "ClaimPending"
    STORAGE_CLASS_MISSING = "StorageClassMissing"
    UNSAFE_FORMAT = "UnsafeFormat"
    CACHED_UNSAFE = "CachedUnsafe"
    REVISION_NOT_FOUND = "RevisionNotFound"
    FILE_NOT_FOUND = "FileNotFound"
    INCOMPLETE_FILE = "IncompleteFile"
    HUB_UNAVAILABLE = "HubUnavailable"
    DISK_FULL = "DiskFull"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    STALLED_DOWNLOAD = "StalledDownload"
    NAME_TAKEN = "NameTaken"

    ALWAYS_ON = "AlwaysOn"
    REQUESTED = "Requested"
    ACTIVE = "Active"
    FIRST_START = "FirstStart"
    FIRST_START_QUEUED = "FirstStartQueued"
    FIRST_START_FAILED = "FirstStartFailed"
    START_FAILED = "StartFailed"
    IDLE = "Idle"
    DELETING = "Deleting"

    NOT_SHARED = "NotShared"
    GRANTED = "Granted"
    QUEUED = "Queued"
    PREEMPTED = "Preempted"
    RELEASED = "Released"
    BLOCKED = "Blocked"
    LEAVING_GROUP = "LeavingGroup"

    READY = "Ready"
    SERVING_OLDER_SPEC = "ServingOlderSpec"
    NOT_STARTED = "NotStarted"
    STARTING = "Starting"
    LOADING = "Loading"
    RESTARTING = "Restarting"
    BACK_OFF = "BackOff"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    ENGINE_NOT_INSTALLED = "EngineNotInstalled"
    LOADING_TIMEOUT = "LoadingTimeout"
    DRAINING = "Draining"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    NODE_UNREACHABLE = "NodeUnreachable"
    CREATE_REFUSED = "CreateRefused"


class Facts(msgspec.Struct, frozen=True):
    """What follows from a reason.

    `conditions` are the types that it is written for, `meaning` is one sentence for the reference page,
    `remedy` what a user can do (`{namespace}` and `{name}` are the Model's).
    """

    conditions: tuple[str, ...]
    meaning: str
    remedy: str = ""
    loading: bool = False
    """The engine is being started: the phase is Loading, and the loading deadline runs."""
    stalled: bool = False
    """A start that waits without using its node: other initial starts need not wait for it."""
    at_rest: bool = False
    """No engine runs and none is being started."""
    final: bool = False
    """Waiting does not change it: a False condition with this reason makes the phase Failed."""
    warning: bool = False
    """A False condition with this reason is a Warning Event; so is every final one."""
    rejects_requests: bool = False
    """No request can start the Model: the proxy answers 503 at once instead of queueing it."""
