"""Leader election in virtual time.

One replica acts, the others are standbys, and one that cannot renew stops by itself.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from flexinfer.api import kube
from flexinfer.runtime.kubernetes.api import LEASES, ConflictError, Kind, NotFoundError, UnavailableError
from flexinfer.runtime.leader_election import (
    ACT_SECONDS,
    DURATION_SECONDS,
    RENEW_SECONDS,
    LeaderElector,
    while_leading,
)
from flexinfer.runtime.runtime import Runtime
from tests.runtimes import a_runtime
from tests.simulation.loop import run


class OneLease:
    """An API server that holds one Lease, and can be unavailable."""

    def __init__(self) -> None:
        self.lease: kube.Lease | None = None
        self.unavailable = False
        self.hangs = False
        self.conflicts = 0
        self.reads = 0
        self.refused = 0
        self._versions = itertools.count(1)

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> kube.Lease:
        """Return the Lease."""
        self.reads += 1
        await self._answer()
        if self.lease is None:
            raise NotFoundError("not found", 404)
        return self.lease

    async def create(self, kind: Kind[Any], namespace: str, body: kube.Lease) -> kube.Lease:
        """Create the Lease."""
        await self._answer()
        return self._store(body)

    async def replace(self, kind: Kind[Any], namespace: str, name: str, body: kube.Lease) -> kube.Lease:
        """PUT the Lease."""
        await self._answer()
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("modified", 409)
        if self.lease is None:
            raise NotFoundError("not found", 404)
        if body.metadata.resource_version != self.lease.metadata.resource_version:
            self.refused += 1
            raise ConflictError("modified", 409)
        return self._store(body)

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.unavailable:
            raise UnavailableError("unavailable")

    def _store(self, body: kube.Lease) -> kube.Lease:
        version = str(next(self._versions))
        metadata = msgspec.structs.replace(body.metadata, resource_version=version)
        self.lease = msgspec.structs.replace(body, metadata=metadata)
        return self.lease


@contextlib.asynccontextmanager
async def led() -> AsyncIterator[tuple[OneLease, Runtime, LeaderElector, "asyncio.Task[None]"]]:
    """Yield a server and a replica that has been the leader for a second; its task ends with the block."""
    server = OneLease()
    runtime = a_runtime(cluster=server)
    leader = LeaderElector("placer", "one")
    task = asyncio.create_task(leader.run(runtime))
    await asyncio.sleep(1)
    yield server, runtime, leader, task
    task.cancel()


async def written_by(server: OneLease, holder: str | None) -> None:
    """Write the Lease as another replica would: as taken over, or as released."""
    assert server.lease is not None
    spec = msgspec.structs.replace(server.lease.spec, holder_identity=holder)
    await server.replace(LEASES, "", "", msgspec.structs.replace(server.lease, spec=spec))


def test_of_two_replicas_one_acts() -> None:
    """The second is a standby."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        first, second = LeaderElector("placer", "one"), LeaderElector("placer", "two")
        tasks = [asyncio.create_task(one.run(runtime)) for one in (first, second)]
        for _ in range(50):
            await asyncio.sleep(1)
            assert first.is_leader(runtime.clock())
            assert not second.is_leader(runtime.clock())
        for task in tasks:
            task.cancel()

    run(main())


def test_a_leader_that_cannot_renew_stops_before_another_may_start() -> None:
    """4 s after its last renewal by its own clock; the Lease runs out after 6."""

    async def main() -> None:
        async with led() as (server, runtime, leader, _task):
            server.unavailable = True
            await asyncio.sleep(ACT_SECONDS - 1.5)
            assert leader.is_leader(runtime.clock())
            await asyncio.sleep(2)
            assert not leader.is_leader(runtime.clock())

    run(main())


def test_a_standby_waits_until_the_lease_of_a_lost_leader_has_expired() -> None:
    """By its own clock: the clocks of others are not trusted."""

    async def main() -> None:
        async with led() as (_server, runtime, _leader, task):
            task.cancel()
            successor = LeaderElector("placer", "two")
            waiting = asyncio.create_task(successor.run(runtime))
            await asyncio.sleep(DURATION_SECONDS - 0.5)
            assert not successor.is_leader(runtime.clock())
            await asyncio.sleep(2)
            assert successor.is_leader(runtime.clock())
            waiting.cancel()

    run(main())


def test_the_same_identity_takes_its_own_lease_at_once() -> None:
    """A restart under `flexinfer up` costs no waiting."""

    async def main() -> None:
        async with led() as (_server, runtime, _leader, task):
            task.cancel()
            again = LeaderElector("placer", "one")
            waiting = asyncio.create_task(again.run(runtime))
            await asyncio.sleep(0.1)
            assert again.is_leader(runtime.clock())
            waiting.cancel()

    run(main())


def test_a_released_lease_is_available_at_once() -> None:
    """A rolling update does not wait."""

    async def main() -> None:
        async with led() as (_server, runtime, leader, task):
            task.cancel()
            await leader.release(runtime)
            assert not leader.is_leader(runtime.clock())
            successor = LeaderElector("placer", "two")
            waiting = asyncio.create_task(successor.run(runtime))
            await asyncio.sleep(0.1)
            assert successor.is_leader(runtime.clock())
            waiting.cancel()

    run(main())


def test_a_renewal_that_hangs_does_not_lose_the_lease() -> None:
    """It times out and is retried while the Lease is still valid."""

    async def main() -> None:
        server = OneLease()
        runtime = a_runtime(cluster=server)
        leader = LeaderElector("placer", "one")
        task = asyncio.create_task(leader.run(runtime))
        await asyncio.sleep(RENEW_SECONDS - 0.5)
        server.hangs = True
        await asyncio.sleep(1.0)
        server.hangs = False
        for _ in range(40):
            await asyncio.sleep(0.25)
            assert leader.is_leader(runtime.clock())
        task.cancel()

    run(main())


def test_a_lease_is_released_although_a_last_renewal_arrived_meanwhile() -> None:
    """The write conflicts once, and is repeated on the current Lease."""

    async def main() -> None:
        async with led() as (server, runtime, leader, task):
            task.cancel()
            server.conflicts = 1
            await leader.release(runtime)
            assert server.lease is not None
            assert server.lease.spec.holder_identity is None

    run(main())


def test_a_renewal_reads_nothing() -> None:
    """The Lease as last written is enough: one request each two seconds, for years."""

    async def main() -> None:
        async with led() as (server, runtime, leader, _task):
            read = server.reads
            await asyncio.sleep(10 * RENEW_SECONDS)
            assert leader.is_leader(runtime.clock())
            assert server.reads == read

    run(main())


@pytest.mark.parametrize("holder", ["placer-two", None])
def test_a_lease_that_another_replica_has_written_is_read_before_it_is_renewed(holder: str | None) -> None:
    """One that was taken over is lost; one that was released is acquired again."""

    async def main() -> None:
        async with led() as (server, runtime, leader, _task):
            await written_by(server, holder)
            await asyncio.sleep(RENEW_SECONDS)
            assert leader.is_leader(runtime.clock()) is (holder is None)
            assert server.lease is not None
            assert server.lease.spec.holder_identity == (holder or "placer-one")

    run(main())


def test_a_leader_whose_time_has_run_out_reads_before_it_writes() -> None:
    """Another replica may be the leader by now; the Lease as last written is not even tried."""

    async def main() -> None:
        async with led() as (server, runtime, leader, _task):
            server.unavailable = True
            await asyncio.sleep(ACT_SECONDS + 1)
            assert not leader.is_leader(runtime.clock())
            server.unavailable = False
            await written_by(server, "placer-two")
            waiting = asyncio.create_task(LeaderElector("placer", "two").run(runtime))
            await asyncio.sleep(DURATION_SECONDS)
            assert not leader.is_leader(runtime.clock())
            assert not server.refused
            waiting.cancel()

    run(main())


def test_a_number_of_transitions_that_cannot_grow_is_kept() -> None:
    """Edited by hand: the API server refused the next one each time, and the component never acted again."""

    async def main() -> None:
        async with led() as (server, runtime, leader, _task):
            assert server.lease is not None
            spec = msgspec.structs.replace(server.lease.spec, lease_transitions=2**31 - 1)
            server.lease = msgspec.structs.replace(server.lease, spec=spec)
            await written_by(server, "placer-two")
            await asyncio.sleep(2 * DURATION_SECONDS)
            assert leader.is_leader(runtime.clock())
            assert server.lease.spec.lease_transitions == 2**31 - 1

    run(main())


def test_a_lease_that_was_deleted_is_created_again() -> None:
    """Its holder remains the leader."""

    async def main() -> None:
        async with led() as (server, runtime, leader, _task):
            server.lease = None
            await asyncio.sleep(RENEW_SECONDS)
            assert leader.is_leader(runtime.clock())
            assert server.lease is not None

    run(main())


def test_a_renewal_changes_only_the_time_of_renewal() -> None:
    """The time of acquisition and the number of transitions stay."""

    async def main() -> None:
        async with led() as (server, _runtime, _leader, task):
            first = server.lease
            await asyncio.sleep(3 * RENEW_SECONDS)
            task.cancel()
            assert first is not None
            assert server.lease is not None
            before, after = first.spec, server.lease.spec
            assert (before.acquire_time, before.lease_transitions) == (
                after.acquire_time,
                after.lease_transitions,
            )
            assert before.renew_time != after.renew_time

    run(main())


def test_work_of_a_leader_is_cancelled_and_restarted_with_the_lease() -> None:
    """A standby does nothing, and is ready."""

    async def main() -> None:
        server = OneLease()
        begun: list[str] = []
        ready: list[bool] = []

        async def work() -> None:
            begun.append("again")
            await asyncio.Event().wait()

        loop = asyncio.get_running_loop()
        rival, leader = LeaderElector("watcher", "one"), LeaderElector("watcher", "two")
        runtime = a_runtime(
            cluster=server,
            is_leader=lambda: leader.is_leader(loop.time()),
            became_leader=leader.became_leader,
            is_standby=leader.is_standby,
            set_ready=ready.append,
        )
        rivals = asyncio.create_task(rival.run(runtime))
        await asyncio.sleep(0.1)
        tasks = [asyncio.create_task(leader.run(runtime)), asyncio.create_task(while_leading(runtime, work))]
        await asyncio.sleep(10)
        assert not begun
        assert ready
        rivals.cancel()
        await rival.release(runtime)
        await asyncio.sleep(1)
        assert len(begun) == 1
        server.unavailable = True
        await asyncio.sleep(10)
        server.unavailable = False
        await asyncio.sleep(1)
        assert len(begun) == 2
        for task in tasks:
            task.cancel()

    run(main())
