"""Many calls at once, on a real HTTP server that answers none of them until it is asked to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flexinfer.runtime.kubernetes.api import JOBS, LEASES, PODS, UnavailableError
from flexinfer.runtime.kubernetes.client import CALLS_AT_ONCE, KubernetesClient, connected
from tests.patience import patient
from tests.slow_api import SlowServer, slow_server

CALLS = 500


@contextlib.asynccontextmanager
async def burst(
    folder: Path,
) -> AsyncIterator[tuple[SlowServer, KubernetesClient, list[asyncio.Task[object]]]]:
    """Start 500 calls that the server does not answer; yields it, the client and the calls."""
    async with slow_server(folder) as (slow, config), connected(config) as api, asyncio.timeout(patient(20)):
        calls = [asyncio.create_task(_get(api, f"p{number}")) for number in range(CALLS)]
        await slow.full.wait()
        try:
            yield slow, api, calls
        finally:
            slow.release.set()
            await asyncio.gather(*calls)


async def _get(api: KubernetesClient, name: str) -> object:
    return await api.get(PODS, "default", name)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_lease_is_renewed_at_once_while_500_calls_wait(tmp_path: Path) -> None:
    """Leader election has connections of its own, and none of the calls has been answered."""
    async with burst(tmp_path) as (slow, api, calls), api.separate() as leases:
        lease = await leases.get(LEASES, "flexinfer-system", "flexinfer-placer")
        assert lease.metadata.name == "flexinfer-placer"
        assert slow.waiting == CALLS_AT_ONCE
        assert not any(call.done() for call in calls)


async def test_at_most_32_calls_are_sent_at_once_in_the_order_of_their_callers(tmp_path: Path) -> None:
    """The call that waits longest is next: no key is passed over."""
    async with burst(tmp_path) as (slow, _, calls):
        slow.release.set()
        await asyncio.gather(*calls)
        order = [int(name.removeprefix("p")) for name in slow.asked]
    assert slow.most <= CALLS_AT_ONCE
    assert sorted(order) == list(range(CALLS))
    assert all(abs(place - number) < 2 * CALLS_AT_ONCE for place, number in enumerate(order))


async def test_a_watch_waits_for_no_call(tmp_path: Path) -> None:
    """It lasts for minutes, and would otherwise take a place for as long."""
    async with burst(tmp_path) as (slow, api, _):
        async for change in api.watch(JOBS, "1"):
            raise AssertionError(change)
        assert slow.waiting == CALLS_AT_ONCE


async def test_a_write_that_waited_is_not_sent_by_a_replica_that_leads_no_more(tmp_path: Path) -> None:
    """It is asked when its turn comes, not when it began to wait."""
    leads = True
    async with burst(tmp_path) as (slow, api, _):
        write = asyncio.create_task(api.writing_while(lambda: leads).create(PODS, "default", {}))
        await asyncio.sleep(0)
        leads = False
        slow.release.set()
        with pytest.raises(UnavailableError, match="not the leader"):
            await write


async def test_an_api_server_that_no_call_reaches_is_a_problem_until_one_does(tmp_path: Path) -> None:
    """It is what /readyz says of it; a refusal is an answer."""
    problems: list[str | None] = []

    def report(cause: str, problem: str | None, since: float | None = None) -> None:
        problems.append(problem)

    async with slow_server(tmp_path) as (_, config), connected(config, report) as api:
        await api.get(LEASES, "default", "a")
    async with connected(config, report) as api:
        with pytest.raises(UnavailableError):
            await api.get(LEASES, "default", "a")
    assert problems[0] is None
    assert problems[1] is not None
    assert "no call to the API server succeeds: GET " in problems[1]
