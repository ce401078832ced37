"""Each fault of GPUs, telemetry, placement and downloads that the product promises to survive has a test, whose docstring names it.

The ids are those of the catalogue of faults; a test says `(reliability G9)` in its docstring.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"\breliability ([A-Z][0-9]+)\b")
FAULTS: Mapping[str, str] = {
    "G1": "memory of a leaver that comes back late, or never: the next starts only after it is back, and Blocked names what keeps it",
    "G2": "memory in use without a process, or by a foreign one: counted, refused, named",
    "G3": "telemetry that is old, of one node or of all: no new start there, running Models untouched",
    "G4": "figures that cannot be true, devices in another order, another uuid after a reboot: rejected, known by uuid",
    "G5": "two decisions on the same last gap at once: one is granted, the other is made again",
    "G6": "a turn that is granted and whose start fails or is cut off: kept or released by rule, nothing is left over",
    "G7": "a node with a running Model that cannot be reached: nothing starts elsewhere before it is known to be gone",
    "G8": "a node that is back with the old process still running: adopted or ended, never two",
    "G9": "NVML's Unknown Error in mid-life: unknown and not empty, and the agent starts again",
    "G10": "an XID of a process: the Pod's matter alone",
    "G11": "an XID after which a device must not be used, of one or of all: out of use, its Model moved, its group fenced",
    "G12": "two Models in demand by turns: one swap in minStay at most, and both are served",
    "G13": "a low priority under the load of a higher one: served within maxWait, or told that it waits without a bound",
    "G14": "an idle holder of high priority: it leaves at once",
    "G15": "a holder that ignores SIGTERM: killed at the end of its grace period, and then as G1",
    "G16": "a Model that others left for and that cannot start: they return, and it is not tried again and again",
    "G17": "a download or an image that takes long: it holds no card, and progress extends the deadline of a start",
    "G18": "a group that is renamed, left or joined while Ready: never two on one device beyond its memory",
    "G19": "equal inputs: the same choice on every replica",
    "G20": "several devices: each has its part of the memory, on one node, or nothing starts",
    "G21": "a named vendor without room, both vendors, a generation that the engine does not support: by rule, with the reason",
    "G22": "an estimate of 0, or beyond every number: refused, and nothing overflows",
    "G23": "a group of the same name in another namespace, or a priority beyond every number: no concern of this one",
    "G24": "a holder whose engine crashes again and again: a deadline ends that, and it leaves",
    "X1": "a download that is cut or killed: resumed, and complete only at its end",
    "X2": "a disk that is too small or becomes full: the reason, the space given back, recovery",
    "X3": "several downloads of one repository on one volume, of one revision and of two: all intact",
    "X4": "a writer that was killed while it held the lock: the next one continues",
    "X5": "other bytes of the right size: refused and deleted",
    "X6": "a revision that moves during a download: all files of one commit",
    "X7": "another revision, file or pattern: other bytes are served, never the previous ones",
    "X8": "429, 503, a redirect to another host, a loop, 304 without a cache: the reason, and no token for another host",
    "X9": "a gated repository, a missing or wrong token: the Secret and the remedy named, recovery after its change",
    "X10": "a token: in no argument, variable, status or message, and sent to its own host alone",
    "X11": "a file name that leads elsewhere: refused",
    "X12": "a path or link that leads out of the folder or volume, and what is no file: refused",
    "X13": "a PVC: mounted whole and read-only, without a subPath, of the own namespace alone",
    "X14": "file:// of the system, a hostPath, a token of a service account: refused or never generated",
    "X15": "a source that names a host: refused, but for the registries of a list",
    "X16": "pickles and code of a repository: left out or refused, unless the spec allows them",
    "X17": "a header that lies about sizes, a pointer, a file that was cut: said before the engine starts",
    "X18": "a key of spec.config that is not on the backend's list: refused",
    "X19": "values with blanks, quotes, variables or commands: one argument as written, or refused",
    "X20": "a Job that was deleted or failed: retried, and a verified Model stays",
    "X21": "a PVC without a StorageClass, or lost: the reason, and recovery",
    "X22": "two Models on one PVC: each has its own folder, and a PVC of the user's is never deleted",
    "X23": "thousands of files, long names, names that differ by case, an empty repository: within bounds, or refused",
}


def named() -> Iterator[tuple[str, str]]:
    """Yield the id of a fault and the test that names it in its docstring."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for fault in NAMED.findall(ast.get_docstring(node) or ""):
                    yield fault, f"{path.relative_to(TESTS)}::{node.name}"


def test_every_fault_has_a_test_that_names_it() -> None:
    """And no test names one that is not listed here."""
    tested = {fault for fault, _ in named()}
    assert sorted(FAULTS.keys() - tested) == []
    assert sorted(tested - FAULTS.keys()) == []
