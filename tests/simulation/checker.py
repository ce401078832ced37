"""The checker: hands what happens to every law, and keeps what several of them ask for."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law, Object
from tests.simulation.laws.memory import Memory
from tests.simulation.laws.requests import Requests
from tests.simulation.laws.table import LAWS

if TYPE_CHECKING:
    from tests.simulation.people import Played
    from tests.simulation.simulation import Simulation

L = TypeVar("L", bound=Law)
Deadlines = Mapping[tuple[str, str], float]


class Checker:
    """All laws of one history.

    `deadlines` is condition type and reason -> the seconds that it may last. `models` and `pods` are those of the
    store, by uid and by namespace and name.
    """

    def __init__(self, simulation: "Simulation", deadlines: Deadlines) -> None:
        self.simulation, self.deadlines = simulation, deadlines
        self.clock: Callable[[], float] = simulation.clock
        self.models: dict[str, Object] = {}
        self.pods: dict[tuple[str, str], Object] = {}
        self.problems: list[str] = []
        self._sums = hashlib.sha256()
        self.laws: list[Law] = [law(self) for law in LAWS]
        self.requests = self.law(Requests)
        self._by_kind: dict[str, list[Law]] = {}
        for law in self.laws:
            for kind in law.kinds:
                self._by_kind.setdefault(kind, []).append(law)
        self._begins, self._ends = self._judging("begins"), self._judging("ends")
        self._sends, self._called = self._judging("sends"), self._judging("called")

    def _judging(self, what: str) -> list[Any]:
        """Return that method of each law which has it: most have none of those that each call would ask."""
        return [getattr(law, what) for law in self.laws if getattr(type(law), what) is not getattr(Law, what)]

    def law(self, kind: type[L]) -> L:
        """Return one of the laws."""
        return next(law for law in self.laws if isinstance(law, kind))

    @property
    def digest(self) -> str:
        """A hash of all writes with their times: the same for the same seed."""
        return self._sums.hexdigest()

    def note(self, line: str) -> None:
        """Add a line to the hash."""
        self._sums.update(f"{self.clock():.6f} {line}\n".encode())

    def report(self, problem: str) -> None:
        """Report a violation."""
        self.problems.append(f"{problem} at {self.clock():.3f}")

    def pods_of(self, uid: str) -> list[Object]:
        """Return the engine Pods of a Model in the store."""
        label = "flexinfer.ai/model-uid"
        return [pod for pod in self.pods.values() if pod["metadata"].get("labels", {}).get(label) == uid]

    # --- what happens

    def written(self, change: Change) -> None:
        """Judge a write at the store."""
        self.note(f"{change.revision} {change.group_resource} {change.key}")
        kind = change.group_resource[1]
        for law in self._by_kind.get(kind, ()):
            law.written(change)
        if kind == "models":
            self._keep_model(change)
        elif kind == "pods":
            if change.new is None:
                self.pods.pop(change.key, None)
            else:
                self.pods[change.key] = change.new

    def _keep_model(self, change: Change) -> None:
        if change.new is not None:
            self.models[change.new["metadata"]["uid"]] = change.new
        elif change.old is not None:
            self.models.pop(change.old["metadata"]["uid"], None)

    def restored(self, changes: Sequence[Change]) -> None:
        """Take each object that a restored backup has in another state, or no longer; none of it is judged."""
        for law in self.laws:
            law.restored()
        judged = tuple(self.problems)
        for change in changes:
            if change.old is not None and _uid(change.old) != _uid(change.new):
                self.written(dataclasses.replace(change, new=None))
            if change.new is not None:
                self.written(dataclasses.replace(change, old=None))
        self.problems[:] = judged
        for law in self.laws:
            law.resumes()

    def plays(self, played: "Played") -> None:
        """Judge the process of a lease that starts."""
        self.law(Memory).plays(played)

    def begins(self, call: Call) -> None:
        """Note that a component begins a write."""
        for begins in self._begins:
            begins(call)

    def ends(self, call: Call) -> None:
        """Note that a component has the answer to a write, or has given up."""
        for ends in self._ends:
            ends(call)

    def sends(self, call: Call) -> None:
        """Judge a write that leaves its process."""
        for sends in self._sends:
            sends(call)

    def called(self, call: Call, answer: Any) -> None:
        """Judge a write that the API server accepted."""
        for called in self._called:
            called(call, answer)

    def check_waits(self) -> None:
        """Judge what lasts too long."""
        for law in self.laws:
            law.passes()

    def restart_waits(self) -> None:
        """Restart the time of every wait."""
        for law in self.laws:
            law.restarts()

    def end_history(self) -> None:
        """Judge how the history ended."""
        for law in self.laws:
            law.ends_history()


def _uid(obj: Object | None) -> str:
    return obj["metadata"]["uid"] if obj is not None else ""
