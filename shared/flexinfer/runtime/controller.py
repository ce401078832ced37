"""A controller: a pure decision, its effects, and the memory of a deciding component.

Components define one in `<component>/__main__.py`; `control_loop` runs it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Generic, TypeAlias, TypeVar

import msgspec

from flexinfer.events.events import AnyEvent
from flexinfer.runtime.runtime import Runtime, Subscriptions
from flexinfer.state.actions import Action, RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

A = TypeVar("A", bound=Action)
F = TypeVar("F")
M = TypeVar("M")


Remember: TypeAlias = Callable[[F], None]
"""Add a fact of the component's own to its memory; the loop decides again. Never blocks."""
Companion: TypeAlias = Callable[[Runtime, Remember[F]], Awaitable[None]]
"""Work that runs beside the loop for as long as the controller does."""


def no_facts(memory: M, fact: F, _at: float) -> M:
    """Reject every fact: the `remember` of a component that has none of its own. Raises TypeError."""
    raise TypeError(f"{type(fact).__name__} is not an event, and the memory {memory!r} holds no facts")


def no_memory(memory: M, _uids: Collection[str]) -> M:
    """Return the memory as it is: it holds nothing by Model."""
    return memory


class Controller(msgspec.Struct, Generic[A, F, M], frozen=True, kw_only=True):
    """A deciding component: its actions A, the facts F of its own, and its memory M."""

    name: str
    decide: Callable[[ObservedState, M, float], Iterable[A | WriteStatus | RequeueAt]]
    """Yield the actions that are due now (monotonic seconds), the same for the same arguments.

    Pure, and must not raise.
    """
    perform: Callable[[Runtime, A], Awaitable[Sequence[AnyEvent | F]]]
    """Carry an action out and return events, which are applied to the state, and facts, which are remembered.

    Runs as a task, one at a time per key. May raise ApiError: the action is decided again after a back-off.
    """
    subscriptions: Subscriptions
    memory: M
    """The memory to start with; never changed in place."""
    remember: Callable[[M, F, float], M] = no_facts
    """Return the memory with a fact of this time. Pure."""
    forget: Callable[[M, Collection[str]], M] = no_memory
    """Return the memory without what belongs to Models other than those with these uids. Pure."""
    observe: Callable[[ObservedState, M], None] | None = None
    """Called before each decision, for metrics and companions. Must not block."""
    companions: tuple[Companion[F], ...] = ()


async def no_effects(runtime: Runtime, action: A) -> Sequence[AnyEvent]:
    """Perform for a component whose only effects are status writes. Raises TypeError."""
    raise TypeError(f"{runtime.name} has no effect {type(action).__name__}")


def stateless(
    decide: Callable[[ObservedState, float], Iterable[A | WriteStatus | RequeueAt]],
) -> Callable[[ObservedState, None, float], Iterable[A | WriteStatus | RequeueAt]]:
    """Return the decision of a component without a memory in the form that a controller calls."""

    def decide_without_memory(
        state: ObservedState, _memory: None, now: float
    ) -> Iterable[A | WriteStatus | RequeueAt]:
        return decide(state, now)

    return decide_without_memory
