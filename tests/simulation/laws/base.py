"""Law: one invariant, judged at the store, at the calls of components, at the node and by the clock."""

from typing import TYPE_CHECKING, Any

import msgspec

from flexinfer.runtime.kubernetes.api import MODELS, Kind
from localkube.apiserver.watch_cache import Change

if TYPE_CHECKING:
    from tests.simulation.checker import Checker

Object = dict[str, Any]


class Call(msgspec.Struct):
    """A write that a component sends: which replica of it, the verb, what it is about, and its body."""

    component: str
    identity: str
    verb: str
    kind: Kind[Any]
    namespace: str
    name: str
    body: Any


class Law:
    """An invariant; the methods that it does not need do nothing.

    `kinds` are the plural names of the kinds whose writes it judges.
    """

    kinds: tuple[str, ...] = ()

    def __init__(self, checker: "Checker") -> None:
        self.checker = checker

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return self.checker.clock()

    def report(self, problem: str) -> None:
        """Report a violation."""
        self.checker.report(problem)

    def written(self, change: Change) -> None:
        """Judge a write at the store."""

    def sends(self, call: Call) -> None:
        """Judge a write as it leaves its process."""

    def begins(self, call: Call) -> None:
        """Note that a component begins a write."""

    def ends(self, call: Call) -> None:
        """Note that the component has the answer, or has given up."""

    def called(self, call: Call, answer: Any) -> None:
        """Judge a write that the API server has accepted."""

    def restored(self) -> None:
        """Forget what can be again: the API server went back to a backup. Each object that differs follows as a write."""

    def resumes(self) -> None:
        """Forget the writes of a restore, which no call has made."""

    def passes(self) -> None:
        """Judge what has lasted too long; called once a second after the faults."""

    def restarts(self) -> None:
        """Restart every wait: a fault may have restarted it, as a new leader does."""

    def ends_history(self) -> None:
        """Judge how the history ended."""


class StatusWriteLaw(Law):
    """A law about each status write of a Model: what it left in the store, and who sent it."""

    kinds = ("models",)

    def __init__(self, checker: "Checker") -> None:
        super().__init__(checker)
        self._last: Change | None = None

    def written(self, change: Change) -> None:
        """Keep the last write of a Model: its call is judged next."""
        self._last = change

    def resumes(self) -> None:
        """Forget the last write: it was of the restore, and the next call may alter nothing."""
        self._last = None

    def called(self, call: Call, answer: Any) -> None:
        """Judge a status write."""
        last, self._last = self._last, None
        if call.kind is MODELS and call.verb == "apply" and last is not None and last.new is not None:
            self.judge(call.component, last.old, last.new)

    def judge(self, component: str, before: Object | None, after: Object) -> None:
        """Judge what a component made of a Model."""
        raise NotImplementedError
