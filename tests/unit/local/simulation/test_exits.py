"""The end of a process of a simulated card is seen as it happens."""

import asyncio
from asyncio.subprocess import Process

import msgspec

from flexinfer.local.simulation.exits import Exits
from localkube.process_identity import Identity, identify
from tests.patience import patient


async def an_engine() -> tuple[Process, Identity]:
    """Return a process that runs until it is ended."""
    process = await asyncio.create_subprocess_exec("sleep", "infinity")
    identity = identify(process.pid)
    assert identity is not None
    return process, identity


async def test_the_end_of_a_process_ends_the_wait() -> None:
    """Once: it is not followed any more."""
    process, identity = await an_engine()
    exits = Exits()
    exits.follow({identity})
    process.kill()
    assert await exits.wait(patient(30))
    exits.follow(())
    assert not await exits.wait(0)
    await process.wait()


async def test_a_pid_that_another_process_has_by_now_counts_as_ended() -> None:
    """The other one is not followed."""
    process, identity = await an_engine()
    exits = Exits()
    exits.follow({msgspec.structs.replace(identity, started=identity.started - 1)})
    assert await exits.wait(0)
    process.kill()
    await process.wait()
    assert not await exits.wait(0)


async def test_a_process_that_is_not_followed_any_more_ends_no_wait() -> None:
    """Its engine holds no card any more."""
    process, identity = await an_engine()
    exits = Exits()
    exits.follow({identity})
    exits.follow(())
    process.kill()
    await process.wait()
    assert not await exits.wait(0)
