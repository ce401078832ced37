"""How long tests wait for what must come: no test judges the speed of the machine that it runs on."""

FACTOR = 4
"""How many times longer than a machine with nothing else to do may take: a wait that is fulfilled costs none of it."""


def patient(seconds: float) -> float:
    """Return how long to wait for what takes at most `seconds` on a machine with nothing else to do."""
    return FACTOR * seconds
