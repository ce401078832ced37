"""Two requests side by side, as one: it has ended only when both have."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Return both results. Raises the error of the first that failed, in this order, once the other has ended too.

    `asyncio.gather` raises at once and leaves the other running: an effect that failed would be tried again beside its own write.
    """
    one, two = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(two, BaseException):
        raise two
    return one, two
