"""Operations: a ComfyUI prompt through the proxy, its steps and its end in the history, and what it counts as meanwhile.

ComfyUI itself is not run: the engine is scripted by the shapes of its source.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient, TestServer

from flexinfer.api.address import host_port
from flexinfer.events import events
from flexinfer.proxy import operations
from flexinfer.proxy.engine import engine_session
from flexinfer.proxy.http import application
from flexinfer.proxy.view import Route
from tests.patience import patient
from tests.unit.proxy.parts import Parts, ProxyServer, deleted, ready, scaled_to_zero
from tests.unit.proxy.scripted_comfyui import ComfyUI

KEY = {"Authorization": "Bearer secret"}
ROOT = "/model/default/llama"
PROMPT = {"prompt": {"3": {"class_type": "KSampler", "inputs": {}}}}
ERROR = {"prompt_id": "p", "node_id": "3", "node_type": "KSampler", "exception_message": "out of\nmemory"}


class Proxied:
    """A proxy before a scripted ComfyUI."""

    def __init__(
        self,
        comfyui: ComfyUI,
        server: BaseTestServer,
        parts: Parts,
        client: TestClient[web.Request, web.Application],
    ) -> None:
        self.comfyui, self.server, self.parts, self.client = comfyui, server, parts, client

    @property
    def route(self) -> Route:
        """The Model's route."""
        return self.parts.view.route(next(iter(self.parts.view.table.models.values())))

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """Step, reason and message of each line of history."""
        return [(e.step, e.reason, e.message) for e in self.parts.published(events.HistoryRecorded)]

    async def send(self, **more: str) -> str:
        """Send a prompt and return its id."""
        response = await self.client.post(f"{ROOT}/prompt", json=PROMPT | more, headers=KEY)
        assert response.status == 200
        return str((await response.json())["prompt_id"])

    async def recorded(self, count: int) -> list[tuple[str, str, str]]:
        """Wait for so many lines of history."""
        await until(lambda: len(self.lines) >= count)
        return self.lines


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(patient(20)):
        while not holds():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def proxied(comfyui: ComfyUI | None = None) -> AsyncIterator[Proxied]:
    """Run a proxy before a scripted ComfyUI."""
    comfyui = comfyui or ComfyUI()
    parts = Parts()
    async with TestServer(comfyui.app) as server, engine_session() as session:
        follow = asyncio.create_task(parts.view.follow())
        await parts.replay()
        await parts.observe(ready(address=host_port(server.host, server.port or 0), backend="comfyui"))
        async with TestClient(ProxyServer(application(parts.gateway, session, "secret"))) as client:
            yield Proxied(comfyui, server, parts, client)
            await parts.observe(deleted(next(iter(parts.view.table.models.values()))))
        follow.cancel()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often for what the engine does not send."""
    monkeypatch.setattr(operations, "LOOK_SECONDS", 0.05)


@pytest.mark.parametrize("broadcasts", [True, False])
async def test_steps_and_end_of_a_prompt_are_lines_of_history(*, broadcasts: bool) -> None:
    """By either kind of message; a prompt of another client is none of ours."""
    async with proxied(ComfyUI(broadcasts=broadcasts)) as running:
        prompt = await running.send()
        await until(lambda: bool(running.comfyui.sockets))
        await running.comfyui.step("of-another-client", 1, 20)
        await running.comfyui.step(prompt, 12, 20)
        await running.recorded(1)
        await running.comfyui.end(prompt)
        assert await running.recorded(2) == [
            (f"prompt {prompt}: step 12 of 20 of node 3", "", ""),
            (f"prompt {prompt}", "Finished", ""),
        ]
        await until(lambda: not running.comfyui.sockets)


async def test_of_many_steps_few_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, and the next after a while: history is kept for a week."""
    monkeypatch.setattr(operations, "LOOK_SECONDS", 3600.0)
    async with proxied() as running:
        prompt = await running.send()
        await until(lambda: bool(running.comfyui.sockets))
        for number in range(1, 21):
            await running.comfyui.step(prompt, number, 20)
        await running.recorded(1)
        await running.comfyui.end(prompt)
        await until(lambda: bool(running.lines) and running.lines[-1][1] == "Finished")
        assert len(running.lines) == 2


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        ([("execution_start", {}), ("execution_error", ERROR)], "KSampler: out of memory"),
        ([("execution_interrupted", {"node_type": "KSampler"})], "interrupted in KSampler"),
        ([("execution_error", {})], "a node: no cause"),
        ([("execution_start", {})], "it failed"),
    ],
)
async def test_a_prompt_that_failed_says_why(messages: list[tuple[str, dict[str, str]]], cause: str) -> None:
    """As its history does."""
    async with proxied() as running:
        prompt = await running.send()
        await running.comfyui.end(prompt, *messages)
        assert await running.recorded(1) == [(f"prompt {prompt}", "Failed", cause)]


async def test_a_prompt_is_in_flight_until_it_ends() -> None:
    """So that its Model is not idle; two at once count as two, and a client that asks for the result is not queued behind them."""
    async with proxied() as running:
        first, second = await running.send(), await running.send()
        assert (running.route.in_flight, running.route.busy) == (2, True)
        answer = await running.client.get(f"{ROOT}/history/{first}", headers=KEY)
        assert await answer.json() == {}
        for prompt in (first, second):
            await running.comfyui.end(prompt)
        await running.recorded(2)
        assert (running.route.in_flight, running.route.busy) == (0, False)


async def test_a_prompt_that_was_removed_from_the_queue_counts_no_longer() -> None:
    """It never gets into the history."""
    async with proxied() as running:
        prompt = await running.send()
        await running.comfyui.remove(prompt)
        [(step, reason, message)] = await running.recorded(1)
        assert (step, reason) == (f"prompt {prompt}", "Removed")
        assert "neither in the queue" in message
        assert running.route.in_flight == 0


async def test_a_look_asks_for_the_queue_once_however_many_prompts_wait() -> None:
    """After the result of each."""
    async with proxied(ComfyUI(has_socket=False)) as running:
        prompts = [await running.send() for _ in range(5)]
        asked = running.comfyui.asked
        asked.clear()
        await until(lambda: asked.count("/prompt") >= 3)
        first, second = [number for number, path in enumerate(asked) if path == "/prompt"][1:3]
        assert asked[first + 1 : second] == [f"/history/{prompt}" for prompt in prompts]


async def test_of_prompts_that_leave_the_queue_at_once_each_has_its_own_end() -> None:
    """One that has a result, and one that was removed."""
    async with proxied(ComfyUI(has_socket=False)) as running:
        finished, removed = await running.send(), await running.send()
        running.comfyui.queue.remove(removed)
        await running.comfyui.end(finished)
        ends = {step: reason for step, reason, _ in await running.recorded(2)}
        assert ends == {f"prompt {finished}": "Finished", f"prompt {removed}": "Removed"}


async def test_the_end_is_noticed_without_a_socket() -> None:
    """As behind a node that answers 404 there."""
    async with proxied(ComfyUI(has_socket=False)) as running:
        prompt = await running.send()
        await running.comfyui.end(prompt)
        assert await running.recorded(1) == [(f"prompt {prompt}", "Finished", "")]


async def test_an_engine_that_is_gone_has_lost_its_prompts() -> None:
    """Once the Model is no longer ready there; before, it may only be late."""
    async with proxied() as running:
        prompt = await running.send()
        await until(lambda: bool(running.comfyui.sockets))
        await running.server.close()
        await running.parts.observe(scaled_to_zero(backend="comfyui", version=3))
        [(step, reason, message)] = await running.recorded(1)
        assert (step, reason) == (f"prompt {prompt}", "Lost")
        assert "stopped before it ended" in message
        assert running.route.in_flight == 0


async def test_an_engine_that_sends_nothing_keeps_its_model_running_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long its queue is."""
    monkeypatch.setattr(operations, "STALLED_SECONDS", 0.2)
    async with proxied() as running:
        await running.send()
        [(_, reason, _message)] = await running.recorded(1)
        assert reason == "Stalled"
        assert (running.route.in_flight, len(running.comfyui.queue)) == (0, 1)


async def test_an_engine_that_ends_the_connection_again_and_again_is_asked_now_and_then() -> None:
    """The end is noticed all the same, and between two connections there is a while."""
    comfyui, connections = ComfyUI(has_socket=False), []

    async def hang_up(request: web.Request) -> web.WebSocketResponse:
        connections.append(asyncio.get_running_loop().time())
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    comfyui.app.router.add_get("/ws", hang_up)
    async with proxied(comfyui) as running:
        prompt = await running.send()
        await until(lambda: len(connections) == 3)
        assert min(b - a for a, b in itertools.pairwise(connections)) >= operations.LOOK_SECONDS
        await running.comfyui.end(prompt)
        assert await running.recorded(1) == [(f"prompt {prompt}", "Finished", "")]


async def test_what_began_no_prompt_is_not_followed() -> None:
    """A refused one, and one whose id is of no form that a path could have."""
    async with proxied() as running:
        response = await running.client.post(f"{ROOT}/prompt", json={}, headers=KEY)
        assert response.status == 400
        await running.send(prompt_id="../../free")
        assert running.route.in_flight == 0
        assert running.comfyui.sockets == {}


async def test_no_more_are_followed_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others run as well."""
    monkeypatch.setattr(operations, "MOST_FOLLOWED", 2)
    async with proxied() as running:
        for _ in range(3):
            await running.send()
        assert (running.route.in_flight, len(running.comfyui.queue)) == (2, 3)


async def test_an_engine_cannot_lead_the_proxy_elsewhere() -> None:
    """A redirect of its WebSocket is followed nowhere."""
    reached: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    other = web.Application()
    other.router.add_get("/{path:.*}", elsewhere)
    async with TestServer(other) as target:

        async def redirect(_request: web.Request) -> web.Response:
            raise web.HTTPFound(str(target.make_url("/inside")))

        comfyui = ComfyUI(has_socket=False)
        comfyui.app.router.add_get("/ws", redirect)
        async with proxied(comfyui) as running:
            prompt = await running.send()
            await running.comfyui.end(prompt)
            await running.recorded(1)
    assert reached == []
