"""A real LiteLLM proxy, started with what `flexinfer litellm render` prints, routes to two Models.

Needs the program `litellm` (`pip install 'litellm[proxy]'`, some hundred MiB) on PATH.
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from flexinfer.api.address import host_port
from flexinfer.api.kube import Service
from flexinfer.cli.litellm import choose, entries_of, rendered
from flexinfer.launcher.manifests import LaunchSettings, service
from flexinfer.proxy.engine import engine_session
from flexinfer.proxy.http import application
from tests.patience import patient
from tests.unit.proxy.parts import Parts, ProxyServer, ready

LITELLM = shutil.which("litellm")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(LITELLM is None, reason="the program litellm is not on PATH"),
]
START_SECONDS = patient(120.0)
MASTER_KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"


@contextlib.asynccontextmanager
async def an_engine(name: str) -> AsyncIterator[str]:
    """Run an engine that answers with its name and the model that it was asked for; yields its host:port."""

    async def complete(request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": f"{name} as {(await request.json())['model']}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": name,
                "choices": [choice],
                "usage": usage,
            }
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    async with TestServer(app) as server:
        yield host_port(server.host, server.port or 0)


@contextlib.asynccontextmanager
async def a_proxy() -> AsyncIterator[tuple[str, str]]:
    """Run FlexInfer's proxy before two Models; yields its URL and the config that is printed for them."""
    parts = Parts()
    follow = asyncio.create_task(parts.view.follow())
    async with engine_session() as session, an_engine("one") as one, an_engine("two") as two:
        models = [
            ready("one", address=one, litellm={"servedModelName": "gpt-4"}, service_labels=("code",)),
            ready(
                "two",
                address=two,
                litellm={"aliases": ["fast"], "copilotAlias": "pilot"},
                service_labels=("chat",),
            ),
        ]
        await parts.replay()
        await parts.observe(*models)
        async with ProxyServer(application(parts.gateway, session, "secret")) as server:
            url = f"http://{host_port(server.host, server.port or 0)}"
            services = [msgspec.convert(service(model, LaunchSettings()), Service) for model in models]
            entries, _ = choose([entry for s in services for entry in entries_of(s)])
            config = {"model_list": [rendered(e, name, url, "THE_KEY") for name, e in entries]}
            yield url, yaml.safe_dump(config)
    follow.cancel()


@contextlib.asynccontextmanager
async def a_litellm(config: Path) -> AsyncIterator[str]:
    """Run LiteLLM's proxy; yields its URL once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "THE_KEY": "secret",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    assert LITELLM is not None
    process = await asyncio.create_subprocess_exec(
        LITELLM,
        "--config",
        str(config),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--telemetry",
        "False",
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while not await answers(session, f"{url}/health/liveliness"):
                assert process.returncode is None
                await asyncio.sleep(0.2)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Return whether a URL answers."""
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_a_litellm_proxy_routes_to_two_models(tmp_path: Path) -> None:
    """By their served names, an alias, a copilot alias and a label of each."""
    expected = {
        "gpt-4": "one as one",
        "code": "one as one",
        "two": "two as two",
        "fast": "two as two",
        "pilot": "two as two",
        "chat": "two as two",
    }
    key = {"Authorization": f"Bearer {MASTER_KEY}"}
    async with a_proxy() as (_, config):
        (tmp_path / "config.yaml").write_text(config)
        async with a_litellm(tmp_path / "config.yaml") as url, aiohttp.ClientSession(headers=key) as session:
            got = {}
            for name in expected:
                body = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    answer = await response.json()
                    assert response.status == 200, answer
                    got[name] = answer["choices"][0]["message"]["content"]
    assert got == expected
