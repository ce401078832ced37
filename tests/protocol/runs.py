"""Every run of the models, and what it must find. The switches are explained at the head of each model.

HOLD are configurations without a counterexample; BREAK leaves one rule out each, by the number of its OFF bit, in the
smallest configuration that shows it. Seconds are those of one core; memory is 0.3 to 1.2 GiB.

`make test` makes the runs of 0 s, `make protocol` and CI those of up to 20 s. The longer ones are left out there: they add
a second instance, or one more event, to what shorter ones have shown.
"""

from collections.abc import Mapping

from tests.protocol.spin import Run

_IDLE = "NM=2 IDLE=1 CAP=1"
"""Two members, one place, and only one demand that comes and goes."""
_LEASE = "NM=2 LEASE=1 IDLE=2 CAP=1 NARB=2"
_LOST_LEASE = "NM=2 LEASE=1 IDLE=3 CAP=1 NARB=2 EV=2"

HOLD = (
    # One holder.
    Run("swap", "NARB=1 NLAU=1 EV=31", 4),
    Run("swap", "NARB=1 NLAU=1 EV=19 COND=1"),
    Run("swap", "NARB=1 NLAU=1 CLOCK=1"),
    Run("swap", "NARB=2 NLAU=1"),
    Run("swap", "NARB=1 NLAU=2", 6),
    Run("swap", "NARB=1 NLAU=2 EV=2", 13),
    Run("swap", "NARB=1 NLAU=2 EV=8", 8),
    Run("swap", "NARB=1 NLAU=2 EV=16", 8),
    Run("swap", "NARB=1 NLAU=2 EV=4", 24),
    Run("swap", "NARB=1 NLAU=2 EV=1", 52),
    Run("swap", "NARB=1 NLAU=1 EV=20 LIVE=1", 2),
    # Several holders in one budget.
    Run("budget", _IDLE, 0),
    Run("budget", "NM=3 CAP=2 IDLE=3 EV=16", 2),
    Run("budget", "NM=2 EV=25", 9),
    Run("budget", "NM=2 EV=4", 5),
    Run("budget", "NM=2 EV=2", 9),
    Run("budget", "NM=2 EV=96", 5),
    Run("budget", "NM=2 SPLIT=1 EV=40", 8),
    Run("budget", "NM=2 LEASE=1 EV=32", 3),
    Run("budget", _LOST_LEASE, 13),
    Run("budget", f"{_LEASE} EV=2"),
    Run("budget", f"{_IDLE} NLAU=2 EV=25", 18),
    Run("budget", f"{_IDLE} NLAU=2 EV=2", 17),
    Run("budget", f"{_IDLE} NARB=2 EV=2 LOSSES=2", 5),
    Run("budget", "NM=3 CAP=2 IDLE=3 LIVE=1", 5),
    Run("budget", "NM=3", 20),
    Run("budget", "NM=3 S1=2", 14),
    Run("budget", "NM=2 NARB=2", 27),
    Run("budget", f"{_IDLE} NARB=2 NLAU=2", 28),
    # Telemetry that ends and returns.
    Run("budget", "NM=2 EV=160", 9),
    Run("budget", "NM=2 LEASE=1 EV=160", 8),
    Run("budget", f"{_IDLE} NLAU=2 EV=128", 5),
    Run("budget", f"{_IDLE} NARB=2 EV=128"),
    Run("budget", "NM=3 CAP=2 IDLE=3 EV=144", 7),
    Run("budget", "NM=2 EV=153", 25),
    # Demand that returns before Releasing.
    Run("budget", f"{_IDLE} NARB=2 EV=256"),
    Run("budget", f"{_LEASE} EV=386"),
    Run("budget", "NM=2 EV=384", 6),
    Run("budget", "NM=2 EV=281", 18),
    Run("budget", f"{_IDLE} NLAU=2 EV=281", 35),
    # Two devices, with a holder on both.
    Run("budget", f"{_IDLE} PAIR=1 EV=32"),
    Run("budget", "NM=2 CAP=1 PAIR=1 EV=33", 2),
    Run("budget", "NM=2 CAP=1 PAIR=1 EV=24"),
    Run("budget", f"{_IDLE} PAIR=1 NLAU=2", 9),
    Run("budget", f"{_IDLE} PAIR=1 EV=1024"),
    # A template that changes.
    Run("budget", "NM=2 EV=512", 14),
    Run("budget", f"{_IDLE} EV=528"),
    Run("budget", f"{_IDLE} NLAU=2 EV=512", 24),
    # A node that falls silent, and is heard again or given up.
    Run("budget", "NM=2 IDLE=3 CAP=1 EV=1024"),
    Run("budget", "NM=2 EV=1024", 14),
    Run("budget", f"{_IDLE} EV=1025"),
    Run("budget", f"{_IDLE} EV=1536"),
    Run("budget", f"{_IDLE} NARB=2 EV=1024"),
    Run("budget", f"{_IDLE} NLAU=2 EV=1024", 21),
)

BREAK: Mapping[str, Mapping[int, Run]] = {
    "swap": {
        1: Run("swap", "NARB=1 NLAU=2"),
        4: Run("swap", "NARB=1 NLAU=2"),
        8: Run("swap", "NARB=1 NLAU=2 EV=1", 3),
        16: Run("swap", "NARB=1 NLAU=1 EV=1"),
        32: Run("swap", "NARB=1 NLAU=1"),
        64: Run("swap", "NARB=1 NLAU=1"),
        128: Run("swap", "NARB=1 NLAU=1 EV=2"),
        256: Run("swap", "NARB=1 NLAU=2"),
        512: Run("swap", "NARB=1 NLAU=2 EV=1"),
        1024: Run("swap", "NARB=1 NLAU=1", 0),
        2048: Run("swap", "NARB=1 NLAU=1", 0),
        4096: Run("swap", "NARB=2 NLAU=1"),
        8192: Run("swap", "NARB=1 NLAU=2 EV=1", 7),
    },
    "budget": {
        1: Run("budget", f"{_IDLE} NLAU=2"),
        2: Run("budget", f"{_IDLE} NLAU=2"),
        4: Run("budget", f"{_IDLE} NLAU=2"),
        8: Run("budget", f"{_IDLE} NLAU=2 EV=1"),
        16: Run("budget", "NM=2 EV=16"),
        32: Run("budget", _IDLE, 0),
        64: Run("budget", _IDLE, 0),
        128: Run("budget", "NM=2"),
        256: Run("budget", "NM=2 EV=64"),
        512: Run("budget", f"{_IDLE} NARB=2 EV=2 LOSSES=2"),
        1024: Run("budget", f"{_LOST_LEASE} GOAL=1"),
        2048: Run("budget", "NM=2 EV=2"),
        4096: Run("budget", "NM=2 EV=2"),
        8192: Run("budget", "NM=3 CAP=2 IDLE=3 LIVE=1"),
        16384: Run("budget", f"{_IDLE} NARB=2"),
        32768: Run("budget", _IDLE, 0),
        65536: Run("budget", _LEASE),
        131072: Run("budget", "NM=2 LEASE=1 EV=32"),
        262144: Run("budget", _LEASE),
        524288: Run("budget", f"{_IDLE} NLAU=2"),
        1048576: Run("budget", "NM=2 EV=2"),
        2097152: Run("budget", "NM=2 EV=2 LOSSES=2"),
        4194304: Run("budget", f"{_LOST_LEASE} GOAL=1"),
        8388608: Run("budget", "NM=2 SPLIT=1"),
        16777216: Run("budget", f"{_IDLE} EV=128", 0),
        33554432: Run("budget", f"{_IDLE} EV=256", 0),
        67108864: Run("budget", "NM=2 CAP=1 PAIR=1"),
        134217728: Run("budget", f"{_IDLE} PAIR=1"),
        268435456: Run("budget", f"{_IDLE} EV=512"),
        536870912: Run("budget", f"{_IDLE} NLAU=2 EV=512", 3),
        1073741824: Run("budget", f"{_IDLE} EV=1024"),
    },
}

OVERLAPPING: Mapping[str, Mapping[int, str]] = {
    "swap": {
        2: "with one holder, the other rules cover a Pod of a former turn; budget 2 shows it with several",
        16384: "a finalizer is removed only from a Model that is being deleted (8192), which the GET sees too",
    },
    "budget": {},
}
"""Rules that no configuration of less than a minute needs, and why."""


def broken(model: str, bit: int) -> Run:
    """Return the run that leaves a rule out."""
    run = BREAK[model][bit]
    return run._replace(switches=f"{run.switches} OFF={bit}")
