"""ProcessTable: who a process of this node is, by /proc: its name, when it started, and its Pod.

The Pod is found by the process's control group, whose path the kubelet names after the Pod's uid, in one of two forms:

    cgroupfs  /kubepods/burstable/pod0c5d8f3a-.../<container>
    systemd   /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0c5d8f3a_....slice/cri-containerd-<container>.scope

What comes before it (`/kubelet/` in kind, `/../` as seen from another control group namespace, the hierarchies of version 1) and what
the runtime (containerd, CRI-O, docker) puts behind it makes no difference. On the local node, which has no containers, the kubelet
names the folder of the Pod in the environment of its processes. A process that cannot be seen has no name, start or Pod.
"""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from flexinfer.events.nodes import DeviceProcess

_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
_POD = re.compile(rf"[/-]pod({_UID}|[0-9a-f]{{32}})(?![0-9a-f])")
"""32 digits without a dash: the Pod of a manifest on the node."""
_LOCAL_RUN = re.compile(rf"(?:^|\0)LOCALKUBE_RUN=[^\0]*/({_UID})/")
_STARTED = 19
"""Field 22 of /proc/<pid>/stat (proc_pid_stat(5)), counted behind the name."""


Holdings: TypeAlias = Mapping[tuple[int, int], int | None]
"""(pid, start) of a process -> the memory that it holds, in bytes; None where the driver does not report how much."""


class ProcessTable:
    """The processes of this node; `root` is where its /proc is."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self.root = root

    def started(self, pid: int) -> int:
        """Return when a process started, in clock ticks since boot; 0 if it cannot be seen."""
        with contextlib.suppress(IndexError, ValueError):
            return int(self._read(pid, "stat").rpartition(")")[2].split()[_STARTED])
        return 0

    def describe(self, pid: int, start_time: int, used_bytes: int) -> DeviceProcess:
        """Return a process that holds so much memory; only its pid if another process has that pid by now."""
        used_mb = used_bytes // 2**20
        if self.started(pid) != start_time:
            return DeviceProcess(pid=pid, used_mb=used_mb, started=start_time)
        return DeviceProcess(
            pid=pid,
            used_mb=used_mb,
            name=self._read(pid, "comm").strip(),
            started=start_time,
            pod_uid=pod_of(self._read(pid, "cgroup")) or local_pod_of(self._read(pid, "environ")),
        )

    def _read(self, pid: int, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.root / str(pid) / name).read_text(errors="replace")
        return ""


def smaller(before: Holdings, after: Holdings) -> Holdings:
    """Return the processes of two lists, each with the smaller figure.

    The memory in use was read between the two. What a process took or freed meanwhile must not be taken for its share
    of that: memory in use without a process is waited for, memory that is counted twice would look free.
    """
    keys = sorted(before.keys() | after.keys())
    pairs = ((key, before.get(key, 0), after.get(key, 0)) for key in keys)
    return {key: None if one is None or two is None else min(one, two) for key, one, two in pairs}


def pod_of(cgroups: str) -> str:
    """Return the uid of the Pod that the text of /proc/<pid>/cgroup names; empty if it names none.

    Where clusters are nested the innermost counts.
    """
    uids = _POD.findall(cgroups)
    return uids[-1].replace("_", "-") if uids else ""


def local_pod_of(environment: str) -> str:
    """Return the uid of the local node's Pod that the text of /proc/<pid>/environ names; empty if it names none."""
    uids = _LOCAL_RUN.findall(environment)
    return uids[-1] if uids else ""
