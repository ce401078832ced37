"""Fault: something that happens to a simulated system, drawn by its weight."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Act: TypeAlias = "Callable[[Simulation, random.Random], None]"


class Fault(msgspec.Struct, frozen=True):
    """One fault; `weight` is how often it is drawn, a request has 10.

    `shows` names the weakness that it shows: while `weaknesses` has it, the fault is not drawn.
    """

    name: str
    weight: float
    act: Any
    shows: str = ""


class Climate(msgspec.Struct, frozen=True):
    """Rates of faults that are set once a history: `share` of the histories have it."""

    name: str
    share: float
    act: Any
    shows: str = ""
