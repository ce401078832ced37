"""What is said of a placement: sentences with numbers, and when a newer sentence is worth writing. Pure."""

import re
from collections.abc import Mapping

from flexinfer.api.model import Placement
from flexinfer.placer.fit import Unschedulable

_NAMED_NODES = 6
_TOLERANCE = 0.1
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def refusal(found: Mapping[str, Unschedulable], scope: str = "") -> str:
    """Return why no node will do: each with its lack, then what would help where the least is lacking."""
    if not found:
        return f"no node is known{scope}; is a node registered, and does the watcher run?"
    named = sorted(found)[:_NAMED_NODES]
    told = "; ".join(f"{name} {found[name].message}" for name in named)
    more = f"; and {len(found) - len(named)} more" if len(found) > len(named) else ""
    nearest = max(sorted(found), key=lambda name: found[name].rank)
    return f"none of {len(found)} node(s) fits{scope}: {told}{more}. What helps: {found[nearest].remedy}"


def housed(placement: Placement) -> str:
    """Return where a Model lives."""
    if placement.vendor == "cpu":
        return f"lives on {placement.node}"
    number = len(placement.devices)
    devices = f"{number} {placement.vendor} device(s)" if number else f"{placement.vendor}"
    size = f", {placement.footprint} MB" if placement.footprint else ""
    return f"lives on {placement.node} ({devices}{size})"


def alike(former: str, newer: str) -> bool:
    """Tell whether two sentences say the same with nearly the same numbers: free memory moves all the time."""
    if _NUMBER.sub("#", former) != _NUMBER.sub("#", newer):
        return False
    pairs = zip(_NUMBER.findall(former), _NUMBER.findall(newer), strict=True)
    return all(abs(float(a) - float(b)) <= _TOLERANCE * max(float(a), float(b)) for a, b in pairs)
