"""Of several replicas of a reactor one acts, by its Lease on the real API server; another takes over when that one ends, however it ends."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.services import OWNERS
from flexinfer.runtime.leader_election import ACT_SECONDS, DURATION_SECONDS, RENEW_SECONDS
from tests.cluster.replicas import Replica, Replicas, replicas
from tests.instance import Running, until

REACTORS = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher")
OWNED = {owner: kind for kind, owner in OWNERS.items()}
A_BIT = 3.0


class House:
    """One leading replica of every reactor, and who it is."""

    def __init__(self, processes: Replicas) -> None:
        self.processes = processes
        self.leading = {name: processes.start(name, "one") for name in REACTORS}

    def second(self, name: str) -> Replica:
        """Start another replica of a reactor."""
        former = self.leading[name].identity
        return self.processes.start(name, "two" if former == "one" else "one")

    def apply(self, name: str) -> None:
        """Make a Model, on which every owner has a verdict."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {"backend": "ollama", "source": "ollama://tiny"},
        }
        file = self.processes.plane.state / f"{name}.json"
        file.write_text(json.dumps(body))
        self.processes.plane.kubectl("create", "-f", str(file))

    def authors(self, service: str, model: str) -> set[str]:
        """Return the identities of the replicas of a service that have said something of a Model."""
        words = ("get", "events", "--field-selector", f"involvedObject.name={model}", "-o", "json")
        told = json.loads(self.processes.plane.kubectl(*words))["items"]
        return {e["reportingInstance"] for e in told if e["reportingComponent"] == f"flexinfer-{service}"}


@pytest.fixture(scope="module")
def house(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """All reactors, one replica of each."""
    with asyncio.Runner() as runner:
        whole = replicas(plane, tmp_path_factory.mktemp("replicas"))
        processes = runner.run(whole.__aenter__())
        try:
            yield House(processes)
        finally:
            runner.run(whole.__aexit__(None, None, None))


def test_a_lease_says_who_holds_it_and_since_when(house: House) -> None:
    """Renewed every 2 s, for 6 s; the time of its acquisition stays."""
    first = house.processes.lease("placer")
    assert (first["holderIdentity"], first["leaseDurationSeconds"]) == ("placer-one", DURATION_SECONDS)

    def renewed(former: dict[str, Any]) -> dict[str, Any]:
        until(lambda: _at(house.processes.lease("placer")) > _at(former), 6, "it is renewed")
        return house.processes.lease("placer")

    second = renewed(first)
    third = renewed(second)
    assert 0.8 * RENEW_SECONDS < _at(third) - _at(second) < ACT_SECONDS
    assert third["acquireTime"] == first["acquireTime"]


def _at(lease: dict[str, Any]) -> float:
    return datetime.fromisoformat(lease["renewTime"]).timestamp()


@pytest.mark.parametrize("name", REACTORS)
def test_a_replica_told_to_end_hands_over_at_once(
    house: House, name: str, record_property: Callable[[str, object], None]
) -> None:
    """It gives its Lease back, so that the other, which stood by, need not wait until that has run out."""
    first, second = house.leading[name], house.second(name)
    house.apply(f"{name}-before")
    until(lambda: bool(house.authors(name, f"{name}-before")), 20, f"{name} acts")
    assert house.authors(name, f"{name}-before") == {first.identity}
    assert house.processes.holder(name) == f"{name}-{first.identity}"
    began, version = time.monotonic(), house.processes.version(name)
    first.signal(signal.SIGTERM)
    house.apply(f"{name}-after")
    until(lambda: second.identity in house.authors(name, f"{name}-after"), 20, f"the other {name} acts")
    seconds = time.monotonic() - began
    record_property("measured", f"{name} hands over: {seconds:.2f} s from SIGTERM to the other's verdict")
    assert first.process.wait(10) == 0
    house.leading[name] = second
    one, two = f"{name}-{first.identity}", f"{name}-{second.identity}"
    holders = [holder for holder, _ in itertools.groupby(house.processes.holders_since(name, version))]
    assert holders in (["", two], [one, "", two])


@pytest.mark.parametrize("name", ["watcher", "launcher"])
def test_a_replica_that_is_killed_is_followed_when_its_lease_has_run_out(
    house: House, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Not before: nobody knows yet that it is gone."""
    first, second = house.leading[name], house.second(name)
    began = time.monotonic()
    first.signal(signal.SIGKILL)
    until(lambda: house.processes.holder(name) == f"{name}-{second.identity}", 30, "the other holds it")
    seconds = time.monotonic() - began
    record_property("measured", f"{name} is followed {seconds:.2f} s after a SIGKILL")
    house.apply(f"{name}-followed")
    until(lambda: second.identity in house.authors(name, f"{name}-followed"), 20, f"the other {name} acts")
    house.leading[name] = second
    assert DURATION_SECONDS - RENEW_SECONDS - 0.5 < seconds < DURATION_SECONDS + A_BIT
