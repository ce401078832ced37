"""The laws that every history is judged by: one row each."""

from tests.simulation.laws.base import Law
from tests.simulation.laws.convergence import Convergence
from tests.simulation.laws.drains import Drains
from tests.simulation.laws.gates import Gates
from tests.simulation.laws.identity import Identity
from tests.simulation.laws.leadership import Leadership
from tests.simulation.laws.leases import Leases
from tests.simulation.laws.leftovers import Leftovers
from tests.simulation.laws.memory import Memory
from tests.simulation.laws.overlap import Overlap
from tests.simulation.laws.owners import Owners
from tests.simulation.laws.reaping import Reaping
from tests.simulation.laws.requests import Requests
from tests.simulation.laws.stops import Stops
from tests.simulation.laws.streams import Streams
from tests.simulation.laws.summary import Summary
from tests.simulation.laws.turns import Turns
from tests.simulation.laws.waits import Waits
from tests.simulation.laws.writes import Writes

LAWS: tuple[type[Law], ...] = (
    Identity,
    Owners,
    Summary,
    Overlap,
    Leadership,
    Turns,
    Leases,
    Gates,
    Stops,
    Memory,
    Drains,
    Reaping,
    Requests,
    Waits,
    Writes,
    Streams,
    Leftovers,
    Convergence,
)
