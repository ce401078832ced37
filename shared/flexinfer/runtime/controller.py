"""A controller: a pure decision by key, its effects, and the memory of a deciding component.

A key is what one decision is about: the key of a Model, or one of the component's own such as a group. What an
event costs is the decisions on the keys that it touches, not one on every Model. Components define a controller in
`<component>/__main__.py`; `control_loop` runs it.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Generic, TypeAlias, TypeGuard, TypeVar

import msgspec

from flexinfer.events.base import Event
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.runtime import Runtime, Subscriptions
from flexinfer.state.actions import Action, CatchUp, RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

A = TypeVar("A", bound=Action)
F = TypeVar("F")
M = TypeVar("M")


Remember: TypeAlias = Callable[[F], None]
"""Add a fact of the component's own to its memory; what it touches is decided again. Never blocks."""
Companion: TypeAlias = Callable[[Runtime, Remember[F]], Coroutine[object, object, None]]
"""Work that runs beside the loop for as long as the controller does."""
Touched: TypeAlias = Callable[[ObservedState, ObservedState, AnyEvent], Iterable[str]]
"""Return the keys whose decision an event may alter; the state before the event, and after it."""


def no_facts(memory: M, fact: F, _at: float) -> M:
    """Reject every fact: the `remember` of a component that has none of its own. Raises TypeError."""
    raise TypeError(f"{type(fact).__name__} is not an event, and the memory {memory!r} holds no facts")


def touches_nothing(_state: ObservedState, _fact: F) -> Iterable[str]:
    """Return no key: the `touched_by` of a component whose facts alter no decision."""
    return ()


def no_memory(memory: M, _uid: str) -> M:
    """Return the memory as it is: it holds nothing by Model."""
    return memory


def no_status(_action: A) -> WriteStatus | None:
    """Return None: the `status_write` of a component whose effects write no status."""
    return None


def follows_nothing(_state: ObservedState) -> None:
    """Take a state and do nothing: the `follow` of a component that only its leader speaks for."""


def model_keys(state: ObservedState) -> Iterable[str]:
    """Return the key of every Model."""
    return state.models


class Controller(msgspec.Struct, Generic[A, F, M], frozen=True, kw_only=True):
    """A deciding component: its actions A, the facts F of its own, and its memory M."""

    name: str
    decide: Callable[[ObservedState, M, str, float], Iterable[A | WriteStatus | RequeueAt | CatchUp]]
    """Yield the actions that are due now (monotonic seconds) for one key, the same for the same arguments.

    Pure. Between two RequeueAt of a key, time alone changes nothing.
    """
    perform: Callable[[Runtime, A], Awaitable[Sequence[AnyEvent | F]]]
    """Carry an action out and return events, which are applied to the state, and facts, which are remembered.

    Runs as a task, one at a time per action key. After an exception the key is decided again after a back-off.
    """
    status_write: Callable[[A], WriteStatus | None] = no_status
    """Return the status that an effect writes, if it writes one: other decisions count it meanwhile."""
    subscriptions: Subscriptions
    memory: M
    """The memory to start with; never changed in place."""
    touched: Touched
    """What an event touches. Pure: for every other key the decision is the same before and after it."""
    keys: Callable[[ObservedState], Iterable[str]] = model_keys
    """Every key there is: after a replay, an election or a disconnection all of them are decided on."""
    touched_by: Callable[[ObservedState, F], Iterable[str]] = touches_nothing
    """What a fact of the component's own touches. Pure."""
    remember: Callable[[M, F, float], M] = no_facts
    """Return the memory with a fact of this time. Pure."""
    forget: Callable[[M, str], M] = no_memory
    """Return the memory without what belongs to the Model of this uid, which was deleted. Pure."""
    observers: tuple[Callable[[ObservedState, M], None], ...] = ()
    """Called before each round of decisions, for metrics and companions. Must not block."""
    follow: Callable[[ObservedState], None] = follows_nothing
    """Called with the state once it is complete and whenever it may have changed, on a standby too: for what every replica answers.

    Must not block.
    """
    companions: tuple[Companion[F], ...] = ()


async def no_effects(runtime: Runtime, action: A) -> Sequence[AnyEvent]:
    """Perform for a component whose only effects are status writes. Raises TypeError."""
    raise TypeError(f"{runtime.name} has no effect {type(action).__name__}")


def stateless(
    decide: Callable[[ObservedState, str, float], Iterable[A | WriteStatus | RequeueAt | CatchUp]],
) -> Callable[[ObservedState, None, str, float], Iterable[A | WriteStatus | RequeueAt | CatchUp]]:
    """Return the decision of a component without a memory in the form that a controller calls."""

    def decide_without_memory(
        state: ObservedState, _memory: None, key: str, now: float
    ) -> Iterable[A | WriteStatus | RequeueAt | CatchUp]:
        return decide(state, key, now)

    return decide_without_memory


def is_event(reply: AnyEvent | F) -> TypeGuard[AnyEvent]:
    """Tell an event from a fact of the component's own."""
    return isinstance(reply, Event)


def is_fact(reply: AnyEvent | F) -> TypeGuard[F]:
    """Tell a fact of the component's own from an event."""
    return not isinstance(reply, Event)
