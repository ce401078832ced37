"""Exits: wakes who waits as soon as a process of a simulated card has ended, as a driver knows it at once."""

import asyncio
import contextlib
import os
from collections.abc import Collection

from localkube.process_identity import Identity, alive


class Exits:
    """The ends of processes; used in one event loop."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._watched: dict[Identity, int] = {}  # process -> its pidfd

    def follow(self, processes: Collection[Identity]) -> None:
        """Wait for the end of these processes from now on, and of no others."""
        for identity in self._watched.keys() - set(processes):
            self._drop(identity)
        for identity in set(processes) - self._watched.keys():
            self._watch(identity)

    def _watch(self, identity: Identity) -> None:
        """Watch a process; one that has ended meanwhile, so that its pid may be of another, counts at once."""
        with contextlib.suppress(OSError):  # ended, or too many are open: then it is seen with the next look
            self._watched[identity] = os.pidfd_open(identity.pid)
            asyncio.get_running_loop().add_reader(self._watched[identity], self._end, identity)
        if not alive(identity):
            self._end(identity)

    def _end(self, identity: Identity) -> None:
        self._drop(identity)
        self._ended.set()

    def _drop(self, identity: Identity) -> None:
        descriptor = self._watched.pop(identity, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def wait(self, seconds: float) -> bool:
        """Wait until one has ended, for so long at most; tell whether one has since the last wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        has_ended = self._ended.is_set()
        self._ended.clear()
        return has_ended
