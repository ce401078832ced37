"""The breaker: first come, first served; a cancelled request leaves nothing behind."""

import asyncio
import random

import pytest

from flexinfer.proxy.breaker import MAX_QUEUED, MAX_QUEUED_BYTES, Breaker, QueueFullError
from tests.simulation.loop import run


async def visit(breaker: Breaker, seconds: float, served: list[int], number: int) -> None:
    """Wait for a slot and hold it for a while."""
    with breaker.slot(10) as admission:
        if await admission:
            served.append(number)
            await asyncio.sleep(seconds)


def test_a_model_without_capacity_queues_requests_and_admits_them_in_order() -> None:
    """Capacity 0, then 1."""

    async def main() -> list[int]:
        breaker, served = Breaker(), list[int]()
        tasks = [asyncio.create_task(visit(breaker, 1, served, n)) for n in range(5)]
        await asyncio.sleep(1)
        assert (served, breaker.queued) == ([], 5)
        breaker.resize(1)
        await asyncio.gather(*tasks)
        assert (breaker.queued, breaker.in_flight, breaker.busy) == (0, 0, False)
        return served

    assert run(main()) == [0, 1, 2, 3, 4]


def test_a_free_slot_is_taken_without_waiting() -> None:
    """The admission is done before the loop runs again."""

    async def main() -> None:
        breaker = Breaker()
        breaker.resize(1)
        with breaker.slot(10) as first, breaker.slot(10) as second:
            assert (first.done(), second.done()) == (True, False)
            assert (breaker.in_flight, breaker.queued) == (1, 1)

    run(main())


def test_a_full_queue_rejects_at_once() -> None:
    """Bounded in number and in bytes; the error names the limit."""

    async def main() -> None:
        breaker = Breaker()
        tasks = [asyncio.create_task(visit(breaker, 1, [], n)) for n in range(MAX_QUEUED)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="512 requests"):
            await visit(breaker, 1, [], -1)
        with pytest.raises(QueueFullError, match="64 MiB"), Breaker().slot(MAX_QUEUED_BYTES + 1):
            pass
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert breaker.queued == 0

    run(main())


def test_bytes_count_only_while_they_are_queued() -> None:
    """Requests in flight leave the queue's budget to others."""

    async def main() -> None:
        breaker = Breaker()
        with breaker.slot(MAX_QUEUED_BYTES) as first:
            with pytest.raises(QueueFullError), breaker.slot(1):
                pass
            breaker.resize(1)
            assert await first
            with breaker.slot(MAX_QUEUED_BYTES):
                assert (breaker.in_flight, breaker.queued) == (1, 1)

    run(main())


def test_a_released_queue_is_empty_and_holds_no_slots() -> None:
    """Its requests continue without a slot, in their order."""

    async def main() -> None:
        breaker = Breaker()
        with breaker.slot(10) as first, breaker.slot(10) as second:
            breaker.release_queue()
            assert (await first, await second) == (False, False)
            assert (breaker.in_flight, breaker.queued) == (0, 0)

    run(main())


@pytest.mark.parametrize("seed", range(20))
def test_a_storm_of_cancels_resizes_and_releases_leaves_it_empty_and_never_over_capacity(seed: int) -> None:
    """Whatever the order."""

    async def main() -> None:
        chance, breaker = random.Random(seed), Breaker()
        capacity, most = 0, 0

        async def one() -> None:
            nonlocal most
            with breaker.slot(1) as admission:
                if await admission:
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
            if chance.random() < 0.02:
                breaker.release_queue()
            await asyncio.sleep(chance.random() * 0.05)
        capacity = 1000
        breaker.resize(capacity)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 0
        assert (breaker.in_flight, breaker.queued) == (0, 0)

    run(main())
