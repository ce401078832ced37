"""The breaker: first come, first served; a cancelled request leaves no trace."""

import asyncio
import random

import pytest

from flexinfer.proxy import breaker as line
from flexinfer.proxy.breaker import Breaker, LineFullError
from tests.simulation.loop import run


async def visit(breaker: Breaker, seconds: float, served: list[int], number: int) -> None:
    """Take a place, stay, go."""
    async with breaker.place(10):
        served.append(number)
        await asyncio.sleep(seconds)


def test_a_sleeping_model_holds_everyone_and_lets_them_go_in_order() -> None:
    """Capacity 0, then 1."""

    async def main() -> list[int]:
        breaker, served = Breaker(), list[int]()
        tasks = [asyncio.create_task(visit(breaker, 1, served, n)) for n in range(5)]
        await asyncio.sleep(1)
        assert (served, breaker.waiting) == ([], 5)
        breaker.resize(1)
        await asyncio.gather(*tasks)
        assert (breaker.waiting, breaker.in_flight) == (0, 0)
        return served

    assert run(main()) == [0, 1, 2, 3, 4]


def test_a_full_line_is_told_at_once() -> None:
    """Bounded in number and in bytes."""

    async def main() -> None:
        breaker = Breaker()
        tasks = [asyncio.create_task(visit(breaker, 1, [], n)) for n in range(line.MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(LineFullError):
            await visit(breaker, 1, [], -1)
        other = Breaker()
        with pytest.raises(LineFullError):
            async with other.place(line.MOST_BYTES + 1):
                pass
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert breaker.waiting == 0

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_a_storm_of_cancels_and_resizes_leaves_it_empty_and_never_over_capacity(seed: int) -> None:
    """Whatever the order."""

    async def main() -> None:
        chance, breaker = random.Random(seed), Breaker()
        capacity, most = 0, 0

        async def one() -> None:
            nonlocal most
            async with breaker.place(1):
                most = max(most, breaker.in_flight - capacity)
                await asyncio.sleep(chance.random())

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(one()))
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            if chance.random() < 0.2 and capacity < 8:
                capacity += chance.randint(0, 2)
                breaker.resize(capacity)
            await asyncio.sleep(chance.random() * 0.05)
        capacity = 1000
        breaker.resize(capacity)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 0
        assert (breaker.in_flight, breaker.waiting) == (0, 0)

    run(main())
