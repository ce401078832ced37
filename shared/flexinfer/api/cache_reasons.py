"""The rows of `reasons` that only the condition Cached has. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from flexinfer.api.conditions import CACHED
from flexinfer.api.reason import Facts, Reason


def _unfetchable(meaning: str, remedy: str) -> Facts:
    """Return the row of weights that no retry brings while source, token and spec stay as they are."""
    flags = {"final": True, "warning": True, "rejects_requests": True}
    return Facts((CACHED,), meaning, remedy, **flags)


CACHE_FACTS: Mapping[Reason, Facts] = MappingProxyType(
    {
        Reason.CACHED: Facts((CACHED,), "The weights are complete."),
        Reason.CACHED_UNSAFE: Facts(
            (CACHED,),
            "The weights are complete, and some of their files can run code when they are loaded: spec.config.allowUnsafeFormats is true.",
            "none is needed if you trust the authors of the repository; else remove spec.config.allowUnsafeFormats",
            warning=True,
        ),
        Reason.PULLED_BY_ENGINE: Facts(
            (CACHED,), "The weights are downloaded when the engine starts; nothing is cached before that."
        ),
        Reason.NO_CLAIM: Facts(
            (CACHED,),
            "No StorageClass makes a PersistentVolumeClaim for strategy Memory: every start downloads the weights to a volume in memory.",
            "set spec.cache.storageClass, or mark a StorageClass as the default and change the spec: kubectl get sc",
        ),
        Reason.IN_IMAGE: Facts(
            (CACHED,), "The path is inside the engine's image or, on the local node, on the host."
        ),
        Reason.CHECKING: Facts(
            (CACHED,), "A Job checks that the source exists, with the mounts that the engine will have."
        ),
        Reason.CHECK_QUEUED: Facts(
            (CACHED,), "The source is checked once one of the checks that run on the node has ended."
        ),
        Reason.FETCHING: Facts((CACHED,), "A Job downloads the weights; status.cache has its progress."),
        Reason.CLAIM_NOT_FOUND: Facts(
            (CACHED,),
            "The PersistentVolumeClaim that the spec names does not exist in the namespace.",
            "create the PersistentVolumeClaim, or name another one: kubectl get pvc -n {namespace}",
            warning=True,
        ),
        Reason.CLAIM_LOST: Facts(
            (CACHED,),
            "The PersistentVolumeClaim is Lost: the volume behind it does not exist any more.",
            "delete the PersistentVolumeClaim; the message says what happens to the weights",
            warning=True,
        ),
        Reason.CLAIM_PENDING: Facts(
            (CACHED,),
            "The StorageClass makes no volume for the PersistentVolumeClaim; the message has what its provisioner wrote, or, after a minute, what its Pod waits for.",
            "look for the cause among the provisioner's Events: kubectl describe pvc -n {namespace}; the download continues by itself",
            warning=True,
        ),
        Reason.STORAGE_CLASS_MISSING: Facts(
            (CACHED,),
            "No volume can be created: the StorageClass does not exist, or none is named and the cluster has no default.",
            "create a StorageClass or mark one as the default; the download continues by itself: kubectl get sc",
            warning=True,
        ),
        Reason.SOURCE_NOT_FOUND: Facts(
            (CACHED,),
            "The volume or image has no such path, or the hub no such repository. It is looked for again with back-off.",
            "add the file, or correct spec.source; it is looked for again with back-off, and at once after a change of the spec",
            final=True,
            warning=True,
            rejects_requests=True,
        ),
        Reason.FETCH_FAILED: Facts(
            (CACHED,),
            "The download or check failed; the message has the cause and the time of the next retry.",
            "fix the cause that the message names; the retry is automatic",
            warning=True,
        ),
        Reason.GATED_REPOSITORY: _unfetchable(
            "The hub refuses the repository: it is gated, or needs another token. It is asked again with back-off.",
            "accept the repository's terms, and put a token that may read it into the Secret that the message names, namespace {namespace}",
        ),
        Reason.SECRET_NOT_FOUND: _unfetchable(
            "The Secret that spec.sourceSecretRef names does not exist, or holds no token. It is looked for again with back-off.",
            "create the Secret in namespace {namespace}, with the key token",
        ),
        Reason.UNSAFE_FORMAT: _unfetchable(
            "The files that spec.config names, or all weights of the repository, can run code when they are loaded.",
            "choose a repository with .safetensors or .gguf files, or set spec.config.allowUnsafeFormats if you trust its authors",
        ),
        Reason.REVISION_NOT_FOUND: _unfetchable(
            "The repository exists and has no such revision.", "correct spec.config.hfRevision"
        ),
        Reason.FILE_NOT_FOUND: _unfetchable(
            "The repository exists and has no file of that name, or none that the patterns match.",
            "correct the file or pattern that the message names",
        ),
        Reason.INCOMPLETE_FILE: _unfetchable(
            "A file cannot be loaded: a git-lfs pointer, a page that was stored as weights, a GGUF file shorter than its header says, or a split file without all parts.",
            "replace the file that the message names, or choose another",
        ),
        Reason.HUB_UNAVAILABLE: Facts(
            (CACHED,),
            "The hub cannot be reached or does not serve the repository now; the message has its answer. The retry is automatic.",
            "check the network, the proxy and the hub; the retry is automatic and resumes where the download stopped",
            warning=True,
        ),
        Reason.DISK_FULL: Facts(
            (CACHED,),
            "The volume has no room for the weights; the message has the numbers. The retry is automatic.",
            "free space, or use a larger volume (spec.cache.size); the retry is automatic",
            warning=True,
        ),
        Reason.CHECKSUM_MISMATCH: Facts(
            (CACHED,),
            "A file came with other bytes than the hub lists; it was deleted and is downloaded again.",
            "nothing at first: the retry is automatic; if it repeats, look for a proxy or disk that changes bytes",
            warning=True,
        ),
        Reason.STALLED_DOWNLOAD: Facts(
            (CACHED,),
            "No byte came for 60 s on open connections. The retry is automatic and resumes where the download stopped.",
            "check the network between the node and the hub; the retry is automatic",
            warning=True,
        ),
    }
)
