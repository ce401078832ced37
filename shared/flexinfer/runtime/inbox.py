"""What a control loop takes: deliveries of NATS, ends of effects, facts of companions, reads that confirm, and its election."""

from collections.abc import Sequence
from typing import Generic, TypeAlias

import msgspec

from flexinfer.events.events import AnyEvent
from flexinfer.runtime.confirmation import Read
from flexinfer.runtime.controller import A, F
from flexinfer.runtime.mailbox import Mailbox
from flexinfer.runtime.runtime import Delivery
from flexinfer.state.actions import WriteStatus


class Started(msgspec.Struct, Generic[A], frozen=True):
    """An action that runs: the key that was decided on, and the key of the Model whose status it writes, if any."""

    key: str
    action: A | WriteStatus
    model: str


class Finished(msgspec.Struct, Generic[F], frozen=True):
    """An effect ended; `replies` is what it taught."""

    action_key: str
    model: str
    """Key of the Model whose status it wrote, else empty."""
    replies: Sequence[AnyEvent | F]


class Learned(msgspec.Struct, Generic[F], frozen=True):
    """A companion learned a fact."""

    fact: F
    at: float


class Elected(msgspec.Struct, frozen=True):
    """The replica is the leader from now on."""


Item: TypeAlias = Delivery | Finished[F] | Learned[F] | Read | Elected


class Inbox(Mailbox[Item[F]], Generic[F]):
    """The queue of one control loop."""
