"""A component with more to do than the API server answers, as it runs in its process."""

import asyncio
from pathlib import Path

import pytest

from flexinfer.runtime.kubernetes.api import PODS
from flexinfer.runtime.process import Runnable, run_component
from flexinfer.runtime.readiness import Readiness
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from tests.nats import nats_server
from tests.patience import patient
from tests.slow_api import slow_server

pytestmark = pytest.mark.integration


async def test_a_burst_of_calls_does_not_cost_a_component_its_lease(tmp_path: Path) -> None:
    """500 calls wait for an API server that answers none of them; the Lease is renewed every 2 s all the same."""
    async with nats_server(tmp_path) as server, slow_server(tmp_path) as (slow, config):

        async def main(runtime: Runtime) -> None:
            calls = [asyncio.create_task(runtime.cluster.get(PODS, "default", f"p{n}")) for n in range(500)]
            await slow.full.wait()
            before = slow.renewals
            while slow.renewals < before + 3:
                await asyncio.sleep(0.02)
            assert runtime.is_leader()
            assert not any(call.done() for call in calls)
            for call in calls:
                call.cancel()
            raise KeyError("done")

        settings = Settings(nats_url=server.url, kubeconfig=config)
        readiness = Readiness("reaper", asyncio.get_running_loop().time)
        with pytest.RaisesGroup(KeyError):
            async with asyncio.timeout(patient(20)):
                await run_component(Runnable("reaper", main, elects=True), settings, readiness)
