"""Two requests side by side: nothing continues behind an effect that has ended."""

import asyncio

import pytest

from flexinfer.runtime.together import both


async def test_both_results_are_returned() -> None:
    """In the order of the arguments, whichever ends first."""

    async def number() -> int:
        await asyncio.sleep(0)
        return 1

    async def text() -> str:
        return "a"

    assert await both(number(), text()) == (1, "a")


@pytest.mark.parametrize("order", [1, -1])
async def test_an_error_is_raised_once_the_other_has_ended_too(order: int) -> None:
    """A write that was begun beside a read that fails is waited for."""
    written = asyncio.Event()
    release = asyncio.Event()

    async def write() -> None:
        await release.wait()
        written.set()

    async def read() -> None:
        asyncio.get_running_loop().call_soon(release.set)
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        await both(*(write(), read())[::order])
    assert written.is_set()
