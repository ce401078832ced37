"""Of several replicas of a controller only the leader acts, by its Lease on a real API server.

A standby takes over when the leader ends.
"""

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
from flexinfer.runtime.leader_election import DURATION_SECONDS, RENEW_SECONDS
from tests.cluster.replicas import Replica, Replicas, replicas
from tests.instance import Running, until
from tests.patience import patient

CONTROLLERS = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher")
OWNED = {owner: kind for kind, owner in OWNERS.items()}


class Leaders:
    """The leading replica of each controller."""

    def __init__(self, processes: Replicas) -> None:
        self.processes = processes
        self.leading = {name: processes.start(name, "one") for name in CONTROLLERS}

    def second(self, name: str) -> Replica:
        """Start a second replica of a controller."""
        previous = self.leading[name].identity
        return self.processes.start(name, "two" if previous == "one" else "one")

    def apply(self, name: str) -> None:
        """Create a Model; every owner writes a condition of it."""
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
        """Return the identities of the replicas of a component that posted Events on a Model."""
        words = ("get", "events", "--field-selector", f"involvedObject.name={model}", "-o", "json")
        items = json.loads(self.processes.plane.kubectl(*words))["items"]
        return {e["reportingInstance"] for e in items if e["reportingComponent"] == f"flexinfer-{service}"}


@pytest.fixture(scope="module")
def leaders(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leaders]:
    """One replica of each controller."""
    with asyncio.Runner() as runner:
        context = replicas(plane, tmp_path_factory.mktemp("replicas"))
        processes = runner.run(context.__aenter__())
        try:
            yield Leaders(processes)
        finally:
            runner.run(context.__aexit__(None, None, None))


def test_a_lease_names_its_holder_and_the_time_of_acquisition(leaders: Leaders) -> None:
    """It lasts 6 s and is renewed, 2 s after the last time at the earliest; acquireTime does not change."""
    first = leaders.processes.lease("placer")
    assert (first["holderIdentity"], first["leaseDurationSeconds"]) == ("placer-one", DURATION_SECONDS)

    def renewed(previous: dict[str, Any]) -> dict[str, Any]:
        until(lambda: _at(leaders.processes.lease("placer")) > _at(previous), 20, "the Lease is renewed")
        return leaders.processes.lease("placer")

    second = renewed(first)
    third = renewed(second)
    assert _at(third) - _at(second) > 0.8 * RENEW_SECONDS
    assert third["acquireTime"] == first["acquireTime"]


def _at(lease: dict[str, Any], field: str = "renewTime") -> float:
    return datetime.fromisoformat(lease[field]).timestamp()


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_terminated_replica_hands_over_at_once(
    leaders: Leaders, name: str, record_property: Callable[[str, object], None]
) -> None:
    """It releases its Lease, so the standby does not wait until it expires."""
    first, second = leaders.leading[name], leaders.second(name)
    leaders.apply(f"{name}-before")
    until(lambda: bool(leaders.authors(name, f"{name}-before")), 20, f"{name} acts")
    assert leaders.authors(name, f"{name}-before") == {first.identity}
    assert leaders.processes.holder(name) == f"{name}-{first.identity}"
    began, version = time.monotonic(), leaders.processes.version(name)
    first.signal(signal.SIGTERM)
    leaders.apply(f"{name}-after")
    until(lambda: second.identity in leaders.authors(name, f"{name}-after"), 20, f"the standby {name} acts")
    seconds = time.monotonic() - began
    record_property(
        "measured",
        f"{name} hands over: {seconds:.2f} s from SIGTERM to the first condition of the new leader",
    )
    assert first.process.wait(patient(10)) == 0
    leaders.leading[name] = second
    one, two = f"{name}-{first.identity}", f"{name}-{second.identity}"
    holders = [holder for holder, _ in itertools.groupby(leaders.processes.holders_since(name, version))]
    assert holders in (["", two], [one, "", two])


@pytest.mark.parametrize("name", ["watcher", "launcher"])
def test_a_killed_replica_is_replaced_when_its_lease_expires(
    leaders: Leaders, name: str, record_property: Callable[[str, object], None]
) -> None:
    """And not earlier: until then no replica can know that it is gone."""
    first, second = leaders.leading[name], leaders.second(name)
    version = leaders.processes.version(name)
    last = leaders.processes.lease(name)
    began = time.monotonic()
    first.end()
    until(
        lambda: leaders.processes.holder(name) == f"{name}-{second.identity}",
        30,
        "the standby holds the Lease",
    )
    seconds = time.monotonic() - began
    record_property("measured", f"{name} is replaced {seconds:.2f} s after a SIGKILL")
    held = {first.identity: [last], second.identity: []}
    for lease in leaders.processes.leases_since(name, version):
        held[lease["holderIdentity"].removeprefix(f"{name}-")].append(lease)
    renewed = max(_at(lease) for lease in held[first.identity])
    assert _at(held[second.identity][0], "acquireTime") - renewed >= DURATION_SECONDS
    leaders.apply(f"{name}-replaced")
    until(
        lambda: second.identity in leaders.authors(name, f"{name}-replaced"), 20, f"the standby {name} acts"
    )
    leaders.leading[name] = second
