"""A store that is restored from a backup, and a watch whose changes are gathered."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flexinfer.api import kube
from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from flexinfer.api.metadata import Metadata
from flexinfer.runtime.kubernetes.api import MODELS, Change, UnavailableError
from localkube.apiserver.requests import Options, Patch
from tests.simulation.backup import RestorableCluster
from tests.simulation.cluster import ApiFaults, coalesced
from tests.simulation.loop import run
from tests.simulation.simulation import Simulation
from tests.simulation.users import Users


def _simulation() -> Simulation:
    simulation = Simulation(1)
    simulation.start(())
    return simulation


def _touch(simulation: Simulation, timeout: str) -> None:
    kind = simulation.named(GROUP, VERSION, PLURAL)
    patch = Patch("merge", {"spec": {"serverless": {"idleTimeout": timeout}}})
    simulation.store.patch(kind, "default", "a", patch, Options(manager="kubectl"))


def test_a_restored_store_is_as_it_was_and_gives_its_versions_out_again() -> None:
    """An object that came since is gone, one that was deleted is back, and those who observe it continue."""

    async def main() -> None:
        simulation = _simulation()
        users = Users(simulation)
        users.create("a")
        backup, version = simulation.store.back_up(), simulation.store.revision
        _touch(simulation, "30s")
        users.create("b")
        simulation.restore(backup)
        assert set(simulation.models()) == {"default/a"}
        assert simulation.models()["default/a"].spec.serverless.idle_timeout != "30s"
        assert simulation.store.revision >= version
        users.create("c")
        assert set(simulation.models()) == {"default/a", "default/c"}
        assert not simulation.checker.problems

    run(main())


def test_a_restore_ends_the_watches_and_refuses_the_versions_of_the_former_life() -> None:
    """A client lists again."""

    async def main() -> None:
        simulation = _simulation()
        users = Users(simulation)
        users.create("a")
        backup = simulation.store.back_up()
        for number in range(50):
            _touch(simulation, f"{number + 10}s")
        version = str(simulation.store.revision)
        cluster = RestorableCluster(simulation.store)
        watch = cluster.watch(MODELS, version)
        following = asyncio.ensure_future(_all(watch))
        await asyncio.sleep(0.01)
        simulation.restore(backup)
        assert await following == []
        with pytest.raises(UnavailableError):
            await _all(cluster.watch(MODELS, version))

    run(main())


async def _all(changes: AsyncIterator[Change[Any]]) -> list[Change[Any]]:
    return [change async for change in changes]


def _change(kind: str, uid: str, version: int) -> Change[kube.Pod]:
    meta = Metadata(name=uid, namespace="default", uid=uid, resource_version=str(version))
    return Change(kind, kube.Pod(metadata=meta), str(version))


def test_gathered_changes_of_an_object_are_one() -> None:
    """The last; what came since is still added, and a deletion stays one."""

    async def changes() -> AsyncIterator[Change[kube.Pod]]:
        for change in (
            _change("MODIFIED", "a", 1),
            _change("ADDED", "b", 2),
            _change("MODIFIED", "a", 3),
            _change("MODIFIED", "b", 4),
            _change("DELETED", "a", 5),
        ):
            yield change

    async def main() -> list[tuple[str, str]]:
        always = ApiFaults(watch_coalesces=1.0)
        gathered = await _all(coalesced(changes(), always, random.Random(1)))
        return [(change.type, change.version) for change in gathered]

    assert run(main()) == [("ADDED", "4"), ("DELETED", "5")]
