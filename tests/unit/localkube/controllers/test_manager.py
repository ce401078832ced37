"""Controllers beside a store."""

import asyncio
from datetime import UTC, datetime, timedelta

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.journal import JournalError
from localkube.apiserver.requests import Options
from localkube.apiserver.store import Store
from localkube.controllers.manager import run_controllers
from tests.patience import patient


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def a_store() -> Store:
    """Return an empty store."""
    return Store(builtin_registry(), now=now)


def change(store: Store, name: str) -> None:
    """Make a change."""
    res = store.registry.find("", "v1", "namespaces")
    assert res is not None
    store.create(res, None, {"metadata": {"name": name}}, Options())


class Counting:
    """Counts its steps; fails at one of them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.steps = 0
        self.stepped = asyncio.Event()
        self._error = error

    def step(self) -> bool:
        """Count."""
        self.steps += 1
        self.stepped.set()
        error, self._error = self._error, None
        if error:
            raise error
        return False


class Alarm(Counting):
    """Wants to be asked again soon."""

    def next_deadline(self) -> datetime | None:
        """Return a moment from now, thrice."""
        return now() + timedelta(milliseconds=5) if self.steps < 3 else None


async def stepped(controller: Counting) -> None:
    """Wait for the next step."""
    async with asyncio.timeout(patient(5)):
        await controller.stepped.wait()
    controller.stepped.clear()


async def test_a_controller_steps_at_the_start_and_after_each_change() -> None:
    """What was there before it counts as well."""
    store, controller = a_store(), Counting()
    async with run_controllers(store, [controller], now):
        await stepped(controller)
        change(store, "a")
        await stepped(controller)
    change(store, "b")
    assert controller.steps == 2


async def test_a_controller_is_asked_again_at_its_own_time() -> None:
    """Without any change."""
    alarm = Alarm()
    async with run_controllers(a_store(), [alarm], now):
        for _ in range(3):
            await stepped(alarm)
    assert alarm.steps == 3


async def test_one_that_fails_neither_stops_the_others_nor_itself() -> None:
    """It is tried again."""
    store, broken, sound = a_store(), Counting(RuntimeError("boom")), Counting()
    async with run_controllers(store, [broken, sound], now):
        await stepped(sound)
        broken.stepped.clear()
        change(store, "a")
        await stepped(broken)
    assert (broken.steps, sound.steps) == (2, 2)


async def test_a_controller_whose_write_finds_no_room_is_called_again() -> None:
    """The process continues: what it could not write is written once there is room."""
    controller = Counting(JournalError("the disk is full"))
    async with run_controllers(a_store(), [controller], now):
        await stepped(controller)
        controller.stepped.clear()
        await stepped(controller)
    assert controller.steps == 2
