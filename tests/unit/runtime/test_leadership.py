"""Leadership in virtual time: one acts, the other waits, and whoever cannot renew stops by itself."""

import asyncio
import itertools
from typing import Any

import msgspec

from flexinfer.contracts import kube
from flexinfer.runtime.api import AwayError, ConflictError, Kind, NotFoundError
from flexinfer.runtime.leadership import ACT_SECONDS, DURATION_SECONDS, Leadership
from tests.runtimes import a_runtime
from tests.simulation.loop import run


class OneLease:
    """An API server that holds one Lease, and can be away."""

    def __init__(self) -> None:
        self.lease: kube.Lease | None = None
        self.away = False
        self._versions = itertools.count(1)

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> kube.Lease:
        """Return the Lease."""
        self._answer()
        if self.lease is None:
            raise NotFoundError("not found", 404)
        return self.lease

    async def create(self, kind: Kind[Any], namespace: str, body: kube.Lease) -> kube.Lease:
        """Create the Lease."""
        self._answer()
        return self._store(body)

    async def replace(self, kind: Kind[Any], namespace: str, name: str, body: kube.Lease) -> kube.Lease:
        """PUT the Lease."""
        self._answer()
        if self.lease and body.metadata.resource_version != self.lease.metadata.resource_version:
            raise ConflictError("modified", 409)
        return self._store(body)

    def _answer(self) -> None:
        if self.away:
            raise AwayError("away")

    def _store(self, body: kube.Lease) -> kube.Lease:
        version = str(next(self._versions))
        metadata = msgspec.structs.replace(body.metadata, resource_version=version)
        self.lease = msgspec.structs.replace(body, metadata=metadata)
        return self.lease


def test_of_two_replicas_one_acts() -> None:
    """The second stands by."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        first, second = Leadership("placer", "one"), Leadership("placer", "two")
        tasks = [asyncio.create_task(one.keep(runtime)) for one in (first, second)]
        for _ in range(50):
            await asyncio.sleep(1)
            assert first.holds(runtime.clock())
            assert not second.holds(runtime.clock())
        for task in tasks:
            task.cancel()

    run(main())


def test_a_leader_that_cannot_renew_stops_before_another_may_start() -> None:
    """4 s after its last renewal by its own clock; the Lease runs out after 6."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        leader = Leadership("placer", "one")
        task = asyncio.create_task(leader.keep(runtime))
        await asyncio.sleep(1)
        server.away = True
        await asyncio.sleep(ACT_SECONDS - 1.5)
        assert leader.holds(runtime.clock())
        await asyncio.sleep(2)
        assert not leader.holds(runtime.clock())
        task.cancel()

    run(main())


def test_a_successor_waits_out_the_lease_of_one_that_vanished() -> None:
    """As it saw it itself: foreign clocks are not believed."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        task = asyncio.create_task(Leadership("placer", "one").keep(runtime))
        await asyncio.sleep(1)
        task.cancel()
        successor = Leadership("placer", "two")
        waiting = asyncio.create_task(successor.keep(runtime))
        await asyncio.sleep(DURATION_SECONDS - 0.5)
        assert not successor.holds(runtime.clock())
        await asyncio.sleep(2)
        assert successor.holds(runtime.clock())
        waiting.cancel()

    run(main())


def test_the_same_identity_takes_its_own_lease_at_once() -> None:
    """A restart under `flexinfer up` costs no waiting."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        task = asyncio.create_task(Leadership("placer", "local").keep(runtime))
        await asyncio.sleep(1)
        task.cancel()
        again = Leadership("placer", "local")
        waiting = asyncio.create_task(again.keep(runtime))
        await asyncio.sleep(0.1)
        assert again.holds(runtime.clock())
        waiting.cancel()

    run(main())


def test_a_lease_given_back_is_free_at_once() -> None:
    """A rolling update does not wait."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        leader = Leadership("placer", "one")
        task = asyncio.create_task(leader.keep(runtime))
        await asyncio.sleep(1)
        task.cancel()
        await leader.give_back(runtime)
        assert not leader.holds(runtime.clock())
        successor = Leadership("placer", "two")
        waiting = asyncio.create_task(successor.keep(runtime))
        await asyncio.sleep(0.1)
        assert successor.holds(runtime.clock())
        waiting.cancel()

    run(main())
