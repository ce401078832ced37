"""Operations: work that an engine continues after it has answered the request that began it, such as a ComfyUI prompt. Pure.

An engine is the tenant's: any text may come, so each function here is total.
"""

from collections.abc import Callable

import msgspec


class Step(msgspec.Struct, frozen=True):
    """How far an operation is: `done` of `total` steps of what it works on now, and the name of that part."""

    operation: str
    done: int
    total: int
    part: str = ""


class End(msgspec.Struct, frozen=True):
    """How an operation ended; `failure` is empty if it succeeded."""

    failure: str = ""


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine's operations are followed: what begins one, what says how far it is, and where its end is read."""

    noun: str
    """What the engine itself calls one."""
    begun_by: str
    """Path whose POST begins one."""
    id_of: Callable[[bytes], str]
    """Returns the operation that an answer to that POST names; empty: none began."""
    events: str
    """Path of the WebSocket that the engine sends its events on."""
    step_of: Callable[[str], Step | None]
    """Returns the step that a message on it says; None: it says none."""
    may_have_ended: Callable[[str], bool]
    """Returns whether a message on it gives cause to look whether an operation has ended."""
    result: Callable[[str], str]
    """Returns the path at which an operation's end is read."""
    end_of: Callable[[str, bytes], End | None]
    """Returns the end of an operation that the answer there says; None: it says none, so it waits or runs, or is gone."""
    left: str
    """Path at which the engine says how many operations wait or run."""
    left_of: Callable[[bytes], int | None]
    """Returns that number; None: the answer has none."""
