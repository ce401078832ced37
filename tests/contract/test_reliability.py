"""Each fault of GPUs, telemetry and placement that the product promises to survive has a test, whose docstring names it.

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
