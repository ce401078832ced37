"""Messages on NATS in which any value may be anything."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.unit.hostile.objects import ANYTHING, OF_TYPE, STAMP, Json, paths, replaced

_MODEL = {"namespace": "default", "name": "llama", "uid": "uid-llama"}
_PROCESSES = [
    {"pid": 7, "usedMb": 100, "name": "game", "started": 5},
    {"pid": 8, "usedMb": 3900, "name": "engine", "started": 6, "podUid": "uid-llama-0"},
]
_DEVICE = {
    "uuid": "GPU-1", "name": "a card", "vendor": "nvidia", "architecture": "sm_86", "totalMb": 24000, "freeMb": 20000, "usedMb": 4000,
    "utilisation": 1, "powerWatts": 9, "pci": "0000:01:00.0", "temperature": 30, "errors": ["XID 79"], "mig": False, "outOfUse": "",
    "healthy": True, "processesKnown": True, "processes": _PROCESSES,
}  # fmt: skip
_TRAFFIC = {"proxy": "p", "idleSeconds": 1.0, "inFlight": 1, "waiting": 1, "version": 7}
MESSAGES: list[Json] = [
    {"type": "GpusObserved", "node": "node-a", "boot": "b", "sample": 3, "ageSeconds": 0.5, "message": "m", "devices": [_DEVICE]},
    {"type": "ActivityObserved", **_MODEL, **_TRAFFIC},
    {"type": "ActivityObserved", **_MODEL, **_TRAFFIC, "name": "other", "uid": "uid-other", "inFlight": 0},
    {"type": "ProxyObserved", "proxy": "p", "final": False, "version": 7},
    {"type": "WakeRequested", **_MODEL, "name": "other", "uid": "uid-other"},
    {"type": "StatusChanged", **_MODEL, "owner": "launcher", "version": 8},
    {"type": "EngineReady", **_MODEL},
    {"type": "SampleAwaited", "node": "node-a"},
    {"type": "DownloadObserved", **_MODEL, "job": "j", "bytes": 1, "totalBytes": 2, "bytesPerSecond": 1, "file": "f"},
    {"type": "HistoryRecorded", **_MODEL, "service": "s", "step": "x", "reason": "r", "message": "m", "seconds": 1.5, "at": STAMP},
    {"type": "Watermark", "streamCreated": "x", "counts": {"model": 1}, "sums": {"model": 5}},
    {"type": "WorkloadDeleted", "namespace": "default", "name": "other"},
    {"type": "ModelDeleted", **_MODEL, "version": 9},
    {"type": "GroupDeleted", "namespace": "default", "name": "card", "uid": "uid-card", "version": 9},
    {"type": "LeaseDeleted", "namespace": "default", "name": "game", "uid": "uid-game", "version": 9},
    {"type": "NodeDeleted", "name": "node-a", "version": 9},
]  # fmt: skip


@st.composite
def hostile_messages(draw: st.DrawFn, published: list[bytes]) -> list[bytes]:
    """Draw one message of each kind, in any order, in which up to four values are something else, most of them of the right type."""
    messages = [*map(json.loads, published), *copy.deepcopy(MESSAGES)]
    for _ in range(draw(st.integers(1, 4))):
        message = draw(st.sampled_from(messages))
        path = draw(st.sampled_from([path for path in paths(message) if path != ("type",)]))
        present: Any = message
        for key in path:
            present = present[key]
        value = draw(OF_TYPE.get(type(present), ANYTHING) if draw(st.integers(0, 3)) else ANYTHING)
        replaced(message, path, value)
    first, last = messages[: len(published)], messages[len(published) :]
    return [json.dumps(message).encode() for message in (*first, *draw(st.permutations(last)))]
